#!/bin/sh
# A Chromium for the tests of the console: the machine's own, or Debian's package. Playwright comes with the locked
# dependencies; it drives what is here, and downloads nothing.
set -eu

found() {
    command -v "${CHROMIUM:-chromium}" >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null
}

found && exit
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "There is no Chromium: install it, or say where it is in CHROMIUM" >&2
    exit 1
fi
echo "Installing Chromium"
install_it() {
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null
}
install_it 2>/dev/null || { apt-get update -qq && install_it; }
found
