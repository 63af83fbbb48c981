"""The command ``serve``: studies as web pages."""

from __future__ import annotations

import ipaddress
import sys
from typing import Annotated

import typer

from service.cli.console import STUDIES, JsonOption, StorageArgument, example, print_json

commands = typer.Typer()


@commands.command(epilog=example("t1t2 serve studies --port 8080"))
def serve(
    storage: StorageArgument = STUDIES,
    host: Annotated[str, typer.Option(help="Address to listen on; whoever reaches it may read.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8080,
    as_json: JsonOption = False,
) -> None:
    """Show the studies of a storage root as web pages.

    They only read, from the storage alone, and have no password: listen on other addresses than this machine's own
    behind something that asks for one. The same is there as JSON below /api/studies. Ctrl-C ends it.
    """
    from service.web.server import make_server

    with make_server(storage, host, port) as server:
        address = str(server.server_address[0])
        if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            print(
                f"warning: whoever reaches {address} may read everything below {storage}: there is no password",
                file=sys.stderr,
            )
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{server.server_address[1]}/"
        if as_json:
            print_json({"url": url, "storage": storage})
        else:
            print(f"{storage} at {url}")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            raise typer.Exit from None
