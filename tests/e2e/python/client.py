"""A client in another language, with stubs generated from the schema: everything a service and its caller do.

    client.py PROTO_DIR HOST:PORT

Each step says what it has shown; the first that does not hold ends the program.
"""

import queue
import sys
import time

import grpc
import wire

messages, rpc = wire.stubs(sys.argv[1])
channel = grpc.insecure_channel(sys.argv[2])
registry = rpc.RegistryStub(channel)


def shown(what):
    print(what, flush=True)


def refused(code, part, call, request):
    """Checks that a call is refused with a code, and a message that tells why."""
    try:
        answer = call(request)
    except grpc.RpcError as error:
        assert error.code() == code, error
        assert part in error.details(), error.details()
    else:
        raise AssertionError(f"not refused: {answer}")


def instance(number, **fields):
    values = {"id": f"api-{number}", "service": "api", "address": f"10.0.0.{number}", "port": 8080}
    return messages.Instance(**{**values, **fields})


def register(session, registered):
    return registry.Register(messages.RegisterRequest(session_id=session, instance=registered)).revision


def resolved():
    query = messages.Query(service="api")
    answer = registry.Resolve(messages.ResolveRequest(query=query))
    return {found.id: found for found in answer.instances}


opened = registry.OpenSession(messages.OpenSessionRequest(ttl_ms=2000))
session = opened.session_id
assert len(session) == 32 and opened.ttl_ms == 2000, opened
first = instance(1, weight=3, tags=["blue"], metadata={"version": "1"})
register(session, first)
found = resolved()["api-1"]
assert (found.address, found.port, found.weight) == ("10.0.0.1", 8080, 3), found
assert list(found.tags) == ["blue"] and dict(found.metadata) == {"version": "1"}, found
assert (found.health, found.lifecycle) == (messages.HEALTH_PASSING, messages.LIFECYCLE_READY), found
services = registry.ListServices(messages.ListServicesRequest()).services
assert [(one.name, one.instances, one.usable) for one in services] == [("api", 1, 1)], services
shown("registered, resolved and listed")

stream = registry.Watch(messages.WatchRequest(query=messages.Query(service="api")))
updates = (update for batch in stream for update in batch.updates)


def next_change():
    """The next step of the watch that is more than a sign of life."""
    return next(update for update in updates if update.WhichOneof("step") != "progress")


reset = next_change().reset
assert [one.id for one in reset.all] == ["api-1"] and reset.at > 0, reset
at = register(session, instance(2))
put = next_change().put
assert (put.instance.id, put.at) == ("api-2", at), put
deregister = messages.DeregisterRequest(session_id=session, instance_id="api-2")
at = registry.Deregister(deregister).revision
delete = next_change().delete
assert (delete.instance_id, delete.at) == ("api-2", at), delete
registry.Drain(messages.DrainRequest(session_id=session, instance_id="api-1"))
assert next_change().delete.instance_id == "api-1"
register(session, first)
assert next_change().put.instance == found
shown("watched what was registered, deregistered and drained")

resumed = registry.Watch(messages.WatchRequest(query=messages.Query(service="api"), after_revision=put.at))
steps = [update.WhichOneof("step") for update in next(iter(resumed)).updates]
assert "reset" not in steps and steps.count("delete") == 2 and steps.count("put") == 1, steps
resumed.cancel()
shown("resumed a watch from a revision")

renewals = queue.SimpleQueue()
confirmations = registry.KeepAlive(iter(renewals.get, None))
begun = time.monotonic()
while time.monotonic() - begun < 3.5:
    renewals.put(messages.KeepAliveRequest(session_id=session))
    confirmed = next(confirmations)
    assert (confirmed.session_id, confirmed.ttl_ms) == (session, 2000), confirmed
    assert "api-1" in resolved()
    time.sleep(0.5)
unknown = "0" * 32
renewals.put(messages.KeepAliveRequest(session_id=unknown))
confirmed = next(confirmations)
assert (confirmed.session_id, confirmed.ttl_ms) == (unknown, 0), confirmed
shown("kept a session of 2 s alive for 3.5 s")

invalid = grpc.StatusCode.INVALID_ARGUMENT
for field, wrong in [
    ("port", instance(9, port=0)),
    ("port", instance(9, port=65536)),
    ("weight", instance(9, weight=0)),
    ("service name", instance(9, service="Not A Label")),
    ("service name", instance(9, service="a" * 300)),
    ("address", instance(9, address="localhost")),
    ("instance id", instance(9, id="")),
]:
    request = messages.RegisterRequest(session_id=session, instance=wrong)
    refused(invalid, field, registry.Register, request)
refused(invalid, "time to live", registry.OpenSession, messages.OpenSessionRequest(ttl_ms=1))
other = registry.OpenSession(messages.OpenSessionRequest(ttl_ms=60000)).session_id
request = messages.RegisterRequest(session_id=other, instance=first)
refused(grpc.StatusCode.ALREADY_EXISTS, "api-1", registry.Register, request)
missing = grpc.StatusCode.NOT_FOUND
refused(missing, "api-9", registry.Get, messages.GetRequest(instance_id="api-9"))
refused(missing, "session", registry.Register, messages.RegisterRequest(session_id=unknown, instance=first))
request = messages.DeregisterRequest(session_id=session, instance_id="api-9")
refused(missing, "api-9", registry.Deregister, request)
shown("was refused what is wrong, with the code that says why")

registry.CloseSession(messages.CloseSessionRequest(session_id=session))
assert next_change().delete.instance_id == "api-1"
assert resolved() == {}
stream.cancel()
renewals.put(None)
assert list(confirmations) == [], "the stream ends with its last request"
channel.close()
shown("closed its session, and its registration was gone at once")
