/* A clock that jumps: to be preloaded. Adds the seconds that the file $SOAK_CLOCK holds (8 bytes, a signed integer) to
 * what a process is told of the time of day; whoever changes the file changes the time. Clocks that count since boot
 * stay as they are. A wait until a moment of the time of day is a wait until that moment of the shifted clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;
static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_cond)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_sem)(sem_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SOAK_CLOCK");
    real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    real_cond = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real_cond) real_cond = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    real_sem = dlsym(RTLD_NEXT, "sem_timedwait");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *place = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (place != MAP_FAILED) shift = place;
}

static int64_t now_shifted_by(void) { return shift ? *shift : 0; }

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = real_clock ? real_clock(clock, time) : (int)syscall(SYS_clock_gettime, clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += now_shifted_by();
    return failed;
}

int gettimeofday(struct timeval *time, void *zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    time->tv_sec = precise.tv_sec;
    time->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (to) *to = precise.tv_sec;
    return precise.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    struct timespec moment = *until;
    if (!(condition->__data.__wrefs & 2)) moment.tv_sec -= now_shifted_by(); /* 2: it counts since boot */
    return real_cond(condition, mutex, &moment);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    struct timespec moment = *until;
    moment.tv_sec -= now_shifted_by();
    return real_sem(semaphore, &moment);
}
