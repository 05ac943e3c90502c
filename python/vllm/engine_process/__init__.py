"""An engine in a process of its own, so that text, JSON and HTTP never hold it up.

    client (tokenizes, makes text)            engine process (schedules, computes)
    AsyncEngineClient ── Add, Abort, Close ──► main.py ──► EngineThread ──► LLMEngine
                      ◄── one StepNews a step ── Outbox ◄──┘

What crosses is numbers and text in MessagePack (`messages.py`), over Unix sockets in a folder that
only this user may enter. One client may have several such engines.
"""
