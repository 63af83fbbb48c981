"""Download MNIST and Fashion-MNIST into a directory that :func:`trainers.data.split.load_split` reads.

    python -m trainers.data.fetch mnist DIR

The only part of training that touches the network, and only when it is called.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainers.config import ConfigError
from trainers.data.samples import TORCHVISION_FOLDERS
from trainers.errors import LONGEST_LINE, quoted, shortened

MIRROR_VARIABLE = "T1T2_MIRROR"

# Each data set's folders on the web, tried in turn. What they send is checked below, so that none has to be trusted.
URLS = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
    "fashion_mnist": (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ),
}

# MNIST's were computed from files whose MD5 is the published one (f68b3c2d…, d53e105e…, 9fb629c4…, ec29112d…).
# Fashion-MNIST's were not computed but copied: pytorch/vision (torchvision/prototype/datasets/_builtin/mnist.py) and
# FluxML/Flux.jl (src/data/fashion-mnist.jl) pin the same four, and the former pins the same four of MNIST as well.
SHA256 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
}


class FetchError(RuntimeError):
    """No server gave the file; the message names the file and, for each server asked, what went wrong."""


def fetch(name: str, root: str | Path, mirror: str | None = None, progress: bool = False) -> Path:
    """Bring the files of ``mnist`` or ``fashion_mnist`` below ``root``, in torchvision's layout; return their folder.

    ``mirror`` (or else the environment variable ``T1T2_MIRROR``) is a URL with a folder ``mnist`` or ``fashion_mnist``;
    it is asked instead of the public servers. ``progress`` draws a bar on stderr. Raises :class:`ConfigError` for a
    name, mirror or ``root`` that cannot be used, and :class:`FetchError` if the files cannot be had.
    """
    if name not in URLS:
        raise ConfigError(f"data set {quoted(name)}: must be one of {', '.join(URLS)}, the ones that can be fetched")
    mirror = mirror or os.environ.get(MIRROR_VARIABLE)
    if mirror and not mirror.startswith(("http://", "https://")):
        raise ConfigError(
            f"mirror {quoted(mirror)} (the option or {MIRROR_VARIABLE}): must begin with http:// or https://"
        )
    urls = (f"{mirror.rstrip('/')}/{name}",) if mirror else URLS[name]
    folder = Path(os.path.expanduser(root)) / TORCHVISION_FOLDERS[name]
    try:
        download(SHA256[name], urls, folder, progress)
    except OSError as error:
        path = shortened(str(error.filename or folder), LONGEST_LINE)
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from error
    return folder


def download(sha256: Mapping[str, str], urls: Sequence[str], folder: Path, progress: bool = False) -> None:
    """Bring each of the files named in ``sha256`` from the first of ``urls`` that has it into ``folder``.

    A file that is there with the right SHA-256 is left alone, so a second call after an interruption fetches only what
    is missing. A download gets its name only when it is complete and its SHA-256 is right; anything else is deleted.
    Raises :class:`FetchError`, and ``OSError`` if ``folder`` cannot be written.
    """
    import pooch
    import requests

    for file, digest in sha256.items():
        failures = []
        for url in urls:
            bar = _Bar(file) if progress else None
            downloader = pooch.HTTPDownloader(
                progressbar=bar or False,
                chunk_size=1 << 16,
                headers={"Accept-Encoding": "identity"},  # else requests may unpack the .gz on its way
            )
            store = pooch.create(path=folder, base_url=f"{url}/", registry={file: digest})
            try:
                store.fetch(file, processor=_readable, downloader=downloader)
                break
            except (ValueError, requests.RequestException) as error:  # a wrong SHA-256; anything of HTTP
                if bar and bar.done:
                    bar.close()
                failures.append(f"{url}/{file}: {error}")
        else:
            raise FetchError(f"cannot fetch {file}, nothing of it kept:\n  " + "\n  ".join(failures))


def _readable(file: str, action: str, _: object) -> None:
    """Let everybody read a new file: pooch keeps the permissions of its temporary file, which are the owner's alone."""
    if action != "fetch":
        Path(file).chmod(0o644)


class _Bar:
    """A progress bar on stderr with the four names that pooch calls, since tqdm is not among our dependencies."""

    def __init__(self, label: str) -> None:
        self.label, self.total, self.done = label, 0, 0

    def update(self, amount: int) -> None:
        self.done += amount
        share = min(self.done / self.total, 1.0) if self.total else 0.0  # 0 to the end if the server gives no length
        filled = "#" * round(30 * share)
        sys.stderr.write(f"\r{self.label:<27}[{filled:<30}] {share:4.0%} of {self.total / 1e3:,.0f} kB")
        sys.stderr.flush()

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        sys.stderr.write("\n")
        self.done = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m trainers.data.fetch {mnist,fashion_mnist} DIR``.

    Exit code 0, 1 for a failed download, 2 for bad input.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trainers.data.fetch",
        description="Download a data set; files that are there and right are not fetched again.",
        epilog="example: python -m trainers.data.fetch mnist ~/data",
    )
    parser.add_argument("name", choices=list(URLS))
    parser.add_argument("root", metavar="DIR", help="the directory that a spec names as data.root")
    parser.add_argument("--mirror", metavar="URL", help=f"a server with the files in URL/NAME/ (or {MIRROR_VARIABLE})")
    options = parser.parse_args(arguments)
    try:
        folder = fetch(options.name, options.root, options.mirror, progress=sys.stderr.isatty())
    except (ConfigError, FetchError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: files already complete are kept, the same command fetches the rest\n")
        return 130
    sys.stdout.write(f"{options.name}: {len(SHA256[options.name])} files in {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
