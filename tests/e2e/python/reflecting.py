"""A client that has never seen the schema: it asks the server for it.

    reflecting.py HOST:PORT

The messages of the reflection protocol itself are few, so they are described here by hand
(grpc.reflection.v1: ServerReflectionRequest and ServerReflectionResponse).
"""

import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

pool = descriptor_pool.DescriptorPool()
channel = grpc.insecure_channel(sys.argv[1])
FIELD = descriptor_pb2.FieldDescriptorProto


def describe(file, name, *fields):
    """Adds a message to a file: fields are (name, number, type, is repeated)."""
    message = file.message_type.add(name=name)
    for field, number, kind, repeated in fields:
        label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
        added = message.field.add(name=field, number=number, label=label)
        if isinstance(kind, str):
            added.type, added.type_name = FIELD.TYPE_MESSAGE, f".reflection.{kind}"
        else:
            added.type = kind


file = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package="reflection", syntax="proto3")
describe(file, "Request", ("symbol", 4, FIELD.TYPE_STRING, False), ("list", 7, FIELD.TYPE_STRING, False))
describe(file, "Files", ("file", 1, FIELD.TYPE_BYTES, True))
describe(file, "Service", ("name", 1, FIELD.TYPE_STRING, False))
describe(file, "Services", ("service", 1, "Service", True))
describe(file, "Response", ("files", 4, "Files", False), ("services", 6, "Services", False))
pool.Add(file)


def message(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def reflect(**request):
    call = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=message("reflection.Request").SerializeToString,
        response_deserializer=message("reflection.Response").FromString,
    )
    return next(call(iter([message("reflection.Request")(**request)])))


def learn(service):
    """Asks for everything that describes a service."""
    for encoded in reflect(symbol=service).files.file:
        pool.AddSerializedFile(encoded)


def call(service, method, /, **fields):
    """Calls a method of which nothing is known but its name."""
    described = pool.FindServiceByName(service).FindMethodByName(method)
    answer = message_factory.GetMessageClass(described.output_type)
    request = message_factory.GetMessageClass(described.input_type)
    unary = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=request.SerializeToString,
        response_deserializer=answer.FromString,
    )
    return unary(request(**fields))


services = {service.name for service in reflect(list="*").services.service}
registry, health = "netloft.registry.v1.Registry", "grpc.health.v1.Health"
assert {registry, health} <= services, services
learn(registry)
learn(health)
session = call(registry, "OpenSession", ttl_ms=60000).session_id
instance = {"id": "api-1", "service": "api", "address": "10.0.0.1", "port": 8080}
call(registry, "Register", session_id=session, instance=instance)
found = call(registry, "Resolve", query={"service": "api"}).instances
assert [(one.id, one.address, one.weight) for one in found] == [("api-1", "10.0.0.1", 1)], found
call(registry, "CloseSession", session_id=session)
print("learnt the schema, registered and resolved", flush=True)
serving = call(health, "Check", service=registry)
assert serving.status == 1, serving
print("found the registry healthy", flush=True)
channel.close()
