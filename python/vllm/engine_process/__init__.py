"""Runs an engine in a separate process, so that text, JSON and HTTP never delay its steps.

    client (tokenizes, makes text)            engine process (schedules, computes)
    AsyncEngineClient ── Add, Abort, Close ──► main.py ──► EngineThread ──► LLMEngine
                      ◄── one StepNews a step ── Outbox ◄──┘

Messages are MessagePack (`messages.py`) over Unix sockets, in a folder that only this user may
enter. One client may have several such engines.
"""
