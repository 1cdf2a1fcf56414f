"""nginx as a cache of calls, as Debian sets it up and tuned for this work, and as a plain proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.peers.peer import Peer
from benchmarks.servers import PROVIDER_KEY
from tests.support.ports import free_port

_CONFIG = """\
%(user)s
daemon off;
worker_processes 1;  # as many as the gateway has
worker_rlimit_nofile 16384;
pid %(folder)s/nginx.pid;
error_log %(folder)s/error.log;
events { worker_connections 8192; }
http {
  %(manner)s
  keepalive_requests 100000000;  # the default, 1000, would make the load connect anew
  client_body_temp_path %(folder)s/bodies;
  proxy_temp_path %(folder)s/proxied;
  fastcgi_temp_path %(folder)s/fastcgi;
  uwsgi_temp_path %(folder)s/uwsgi;
  scgi_temp_path %(folder)s/scgi;
  proxy_cache_path %(folder)s/cache levels=1:2 keys_zone=pictures:16m inactive=1d use_temp_path=off;
  upstream provider { server %(provider)s; keepalive 64; }
  server {
    listen 127.0.0.1:%(port)d backlog=4096;
    client_max_body_size 64k;
    client_body_buffer_size 64k;        # $request_body is empty for a body that went to a file
    client_body_in_single_buffer on;
    location = /ready { return 204; }
    location / {
      proxy_pass http://provider;
      proxy_http_version 1.1;           # with the next line: connections to the provider are kept
      proxy_set_header Connection "";
      proxy_set_header Host %(provider)s;
      proxy_read_timeout 180s;          # the gateway's own default for a picture
      %(cache)s
    }
  }
}
"""
# A record of every use, as the gateway keeps one; this and the next lines are Debian's own nginx.conf.
_AS_SHIPPED = """\
access_log %(folder)s/access.log;
  sendfile on;
  tcp_nopush on;"""
# What made hits cheapest in trials: the log in one write for many, entries kept open, and without sendfile, whose two
# calls cost more than copying half a kilobyte.
_TUNED = """\
access_log %(folder)s/access.log combined buffer=64k flush=1s;
  open_file_cache max=10000 inactive=1d;
  open_file_cache_valid 1d;"""
_CACHE = """\
proxy_cache pictures;
      proxy_cache_methods POST;
      proxy_cache_key "$request_uri|$request_body";
      proxy_cache_valid 200 1d;
      proxy_cache_lock on;              # equal calls wait for the first, 5 s long by default"""


def nginx(folder: Path, provider_url: str, *, cached: bool = True, tuned: bool = False) -> Peer:
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    facts = {
        "user": "user root;" if os.geteuid() == 0 else "",  # else the worker could not enter our temporary folder
        "folder": folder,
        "port": port,
        "provider": urlsplit(provider_url).netloc,
        "manner": (_TUNED if tuned else _AS_SHIPPED) % {"folder": folder},
        "cache": _CACHE if cached else "",
    }
    config.write_text(_CONFIG % facts)
    command = [_found(), "-e", f"{folder}/error.log", "-c", str(config)]
    return Peer("nginx", command, port=port, ready_path="/ready", log=folder / "log", key=PROVIDER_KEY)


def version() -> str:
    return subprocess.run([_found(), "-v"], capture_output=True, text=True, check=True).stderr.strip().split("/")[1]


def _found() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise RuntimeError("nginx is not installed (`apt-get install nginx-light`)")
    return found
