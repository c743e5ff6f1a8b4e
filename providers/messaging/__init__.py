"""The messaging capability, contract ``wasmcloud:messaging``: NATS subjects and JetStream streams.

``contract`` speaks the wire in both its faces; ``grants`` says what links may touch; ``settings``
reads what an operator wrote; ``delivery`` decides what becomes of a message that was not handled;
``sources`` bring messages in; ``provider`` joins them, link by link.
"""
