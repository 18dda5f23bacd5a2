"""``jaxprim cache``: the compiled kernels in the user's cache."""

from __future__ import annotations

import time
from pathlib import Path

import click

from jaxprim import _cache


@click.group("cache", short_help="List or clear the compiled kernels.")
def command() -> None:
    """The compiled kernels that this user keeps: where they are, which there are, and taking them out."""


@command.command("path", short_help="Print the folder.")
def path() -> None:
    """Print the folder of compiled kernels."""
    click.echo(_cache.folder())


@command.command("list", short_help="Print the kernels, with sizes and times of last use.")
def show() -> None:
    """Print the kernels in the cache, what was used longest ago first."""
    root = _cache.folder()
    entries = _cache.entries(root)
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used_s))
        click.echo(f"{used}  {_cache.size_in_words(entry.bytes):>10}  {entry.name}  {entry.path.name[-24:]}")
    click.echo(_summary(entries, root))


@command.command("clear", short_help="Remove kernels.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--unused-for", "days", type=click.FloatRange(min=0), metavar="DAYS", help="Only what was not used so long."
)
def clear(names: tuple[str, ...], days: float | None) -> None:
    """Remove the kernels of these names, or all kernels. What is needed again is compiled again."""
    root, now = _cache.folder(), time.time()
    entries = [entry for entry in _cache.entries(root) if not names or entry.name in names]
    unknown = [name for name in names if name not in {entry.name for entry in entries}]
    if unknown:
        raise click.UsageError(f"no kernel {unknown[0]!r} in {root}")
    if days is not None:
        entries = [entry for entry in entries if now - entry.used_s > days * 24 * 3600]
    for entry in entries:
        _cache.remove(entry)
    if not names and days is None:
        for entry in _cache.left_over(root):
            _cache.remove(entry)
    click.echo(f"removed {_summary(entries, root)}")


def _summary(entries: list[_cache.Entry], root: Path) -> str:
    size = _cache.size_in_words(sum(entry.bytes for entry in entries))
    return f"{len(entries)} kernel{'s' * (len(entries) != 1)}, {size}, in {root}"
