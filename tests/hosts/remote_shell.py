#!/usr/bin/env python3
"""What ssh is between real hosts: mpirun starts its daemons through it (plm_rsh_agent).

    remote_shell.py HOST COMMAND...    runs it there; its output and its exit status
    remote_shell.py                    the server on port 22: each connection is one command

As with ssh it takes a network to start a command and to hear of its end, a command goes on when the
connection is lost, and nothing of the caller's environment goes along.
"""
import os
import socket
import subprocess
import sys
import threading

PORT = 22


def receive(connection, count):
    got = b""
    while len(got) < count:
        more = connection.recv(count - len(got))
        if not more:
            raise EOFError
        got += more
    return got


def send(connection, data):
    connection.sendall(len(data).to_bytes(4, "big") + data)


def answer(connection):
    """Output in pieces, then an empty one and the exit status."""
    command = receive(connection, int.from_bytes(receive(connection, 4), "big"))
    process = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        while data := os.read(process.stdout.fileno(), 65536):
            send(connection, data)
        send(connection, b"")
        send(connection, bytes([process.wait() & 255]))
    except OSError:  # the caller is gone
        process.wait()
    finally:
        connection.close()


def serve():
    server = socket.create_server(("", PORT))
    print("up", flush=True)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def call(host, command):
    try:
        connection = socket.create_connection((host, PORT))
        send(connection, command.encode())
        while data := receive(connection, int.from_bytes(receive(connection, 4), "big")):
            os.write(1, data)
        receive(connection, 4)
        return receive(connection, 1)[0]
    except EOFError:
        print(f"remote_shell: {host} closed the connection", file=sys.stderr)
    except OSError as error:
        print(f"remote_shell: connect to host {host} port {PORT}: {error.strerror}", file=sys.stderr)
    return 255


if __name__ == "__main__":
    sys.exit(serve() if len(sys.argv) < 3 else call(sys.argv[1], " ".join(sys.argv[2:])))
