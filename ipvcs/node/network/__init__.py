"""How nodes talk: transports, security, multiplexing, and who is connected (white paper §3.2).

From the bottom: `tcp` moves bytes; `multistream` agrees on what to speak; `noise` and `tls` prove who the other side is
and encrypt; `yamux` and `mplex` make many streams of one connection; `connection` is the shell around those cores;
`swarm` dials, listens and keeps connections; `identify` and `ping` are the first services on top.
"""
