"""Two processes that share port 80 by SO_REUSEPORT."""


def run(stopped):
    """`stopped`: one of them was stopped by a signal."""
    told, tell = os.pipe()
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            server = listener(shared=True)
            os.write(tell, b".")
            serve(server)
        children.append(child)
    for _ in children:
        os.read(told, 1)
    if stopped:
        os.kill(children[0], signal.SIGSTOP)
    ready()
    signal.pause()
