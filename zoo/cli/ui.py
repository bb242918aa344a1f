"""`zoo ui`: MLflow's pages on the project's store."""

from __future__ import annotations

import click

from zoo.cli.output import is_verbose
from zoo.errors import UserError


@click.command()
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Keep the default: the pages have no password.",
)
@click.option("--no-serve", is_flag=True, help="Only print the links.")
@click.option("--open", "open_page", is_flag=True, help="Open the list of models in your browser.")
def command(port: int, host: str, no_serve: bool, open_page: bool) -> None:
    """Start MLflow's UI on the project's store and print links into it.

    Ctrl-C ends it, with exit status 0; `zoo -v ui` shows what MLflow prints. If
    MLFLOW_TRACKING_URI names a server, its pages are linked and nothing is started.

    \b
    Examples:
      zoo ui
      zoo ui --open
      zoo ui --port 5050
    """
    from zoo.registry.store import open_store, show_uri
    from zoo.registry.ui import list_links, serve_ui

    store = open_store(create=False)
    if not (store.is_server or no_serve):
        _check_free(host, port)
    links = list_links(store, base="" if store.is_server else f"http://{host}:{port}")
    click.echo(f"store         {show_uri(store)}")
    for name, link in links.items():
        click.echo(f"{name:13} {link}")
    if store.is_server or no_serve:
        if open_page:
            click.launch(links["models"])
        return

    def tell() -> None:
        click.echo("ready; Ctrl-C ends it")
        if open_page:
            click.launch(links["models"])

    click.echo("starting MLflow's server …")
    serve_ui(store, host, port, on_ready=tell, show_output=is_verbose())


def _check_free(host: str, port: int) -> None:
    """Raise `UserError` if MLflow cannot listen there: the links would lead elsewhere."""
    import socket

    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as listener:
            # As servers do: a port that has just been closed is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}, port {port} ({error.strerror}): "
            "if another program does, choose another --port"
        ) from None
