"""Chromium from the npm registry, installed once: one that brings its libraries, and its fonts.

The package is made for machines without a desktop: the headless shell for x86-64, packed with
Brotli, and the libraries that a plain Linux lacks.
See https://github.com/Sparticuz/chromium and `chromium_packages/package.json`.
"""

from __future__ import annotations

import functools
import io
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import brotli

from tests.harness import npm
from tests.harness.build_cache import cached

_PACKAGES = Path(__file__).parent / "chromium_packages"
#: Open Sans comes with Chromium. These add fixed width, symbols and Simplified Chinese (GB 2312).
_FONTS = (
    "dejavu-fonts-ttf/ttf/DejaVuSans.ttf",
    "dejavu-fonts-ttf/ttf/DejaVuSansMono.ttf",
    "dejavu-fonts-ttf/ttf/DejaVuSansMono-Bold.ttf",
    "@embedpdf/fonts-sc/fonts/NotoSansHans-Regular.otf",
)


@dataclass(frozen=True)
class Installed:
    """A folder with the browser and what it needs."""

    folder: Path

    @property
    def program(self) -> Path:
        """The browser's executable file."""
        return self.folder / "chromium"

    @property
    def axe(self) -> str:
        """The source of axe-core, which defines `window.axe`."""
        return (self.folder / "axe.min.js").read_text(encoding="utf-8")

    def environment(self) -> dict[str, str | float | bool]:
        """Return this process's environment, with the browser's own libraries and fonts alone."""
        own = {
            "LD_LIBRARY_PATH": str(self.folder / "lib"),
            "FONTCONFIG_PATH": str(self.folder),
            "FONTCONFIG_FILE": str(self.folder / "fonts.conf"),
        }
        return {**os.environ, **own}


@functools.cache
def installed() -> Installed:
    """Return the installed browser.

    The npm registry is used only for the first install of a lock: 110 MB, and 250 MB unpacked.
    """
    names = ("package.json", "package-lock.json", "fonts.conf")
    sources = [*(_PACKAGES / name for name in names), Path(__file__)]
    return Installed(cached("chromium", sources, _install))


def _install(folder: Path) -> None:
    npm.install(folder, seconds=280)
    modules = folder / "node_modules"
    packed = modules / "@sparticuz" / "chromium" / "bin"
    program = Installed(folder).program
    program.write_bytes(brotli.decompress((packed / "chromium.br").read_bytes()))
    program.chmod(0o755)
    for name in ("al2023.tar.br", "fonts.tar.br"):
        archive = io.BytesIO(brotli.decompress((packed / name).read_bytes()))
        with tarfile.open(fileobj=archive) as tar:
            # Its own `fonts.conf` names folders of another machine.
            wanted = [member for member in tar if member.name != "fonts.conf"]
            tar.extractall(folder, wanted, filter="data")
    for font in _FONTS:
        shutil.copy(modules / font, folder / "fonts")
    shutil.copy(modules / "axe-core" / "axe.min.js", folder)
    shutil.rmtree(modules)
