"""A client that does what its standard input says, one order a line, and says when it is done.

    holder.py PROTO_DIR HOST:PORT
"""

import queue
import sys

import grpc
import wire

messages, rpc = wire.stubs(sys.argv[1])
registry = rpc.RegistryStub(grpc.insecure_channel(sys.argv[2]))
renewals = queue.SimpleQueue()
confirmations = None
session = None

for line in sys.stdin:
    order, argument = line.split()
    if order == "open":
        session = registry.OpenSession(messages.OpenSessionRequest(ttl_ms=int(argument))).session_id
        confirmations = registry.KeepAlive(iter(renewals.get, None))
        print("opened", flush=True)
    elif order == "register":
        instance = messages.Instance(id=argument, service="api", address="10.0.0.2", port=80)
        registry.Register(messages.RegisterRequest(session_id=session, instance=instance))
        print(f"registered {argument}", flush=True)
    elif order == "renew":
        renewals.put(messages.KeepAliveRequest(session_id=session))
        confirmation = next(confirmations)
        assert confirmation.session_id == session and confirmation.ttl_ms > 0, confirmation
        print(f"renewed {argument}", flush=True)
