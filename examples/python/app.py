"""A web app of the standard library alone: counts its visitors, and ends politely when its machine is replaced."""
import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

visits = 0
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global visits
        with lock:
            visits += 1
            seen = visits
        here = {
            "region": os.environ.get("FLY_REGION", "local"),
            "machine": os.environ.get("FLY_MACHINE_ID", "local"),
            "visits": seen,
        }
        body = (json.dumps(here) + "\n").encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, text, *args):
        print(text % args, flush=True)


server = ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
server.daemon_threads = False


def stop(*_):
    # Not from this thread, which is the one that serves.
    threading.Thread(target=server.shutdown).start()


signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
print("listening on 8080", flush=True)
server.serve_forever()
