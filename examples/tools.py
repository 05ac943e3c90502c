"""Lets a model call functions of yours until it has an answer, through OpenAI's client.

vllm serve MODEL --tool-call-parser hermes
pip install openai
python examples/tools.py http://127.0.0.1:8000/v1
"""

import json
import sys
from typing import Any, Dict, List

import openai


def weather(city: str) -> str:
    return {"Paris": "18 degrees, rain"}.get(city, "unknown")


FUNCTIONS = {"weather": weather}
TOOLS: List[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city now.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


def main(url: str) -> None:
    client = openai.OpenAI(base_url=url, api_key="none")
    model = client.models.list().data[0].id
    messages: List[Any] = [{"role": "user", "content": "Do I need an umbrella in Paris?"}]
    while True:
        answer = client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            print(message.content)
            return
        for call in message.tool_calls:
            arguments: Dict[str, Any] = json.loads(call.function.arguments)
            result = FUNCTIONS[call.function.name](**arguments)
            print(f"{call.function.name}({call.function.arguments}) = {result}")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


if __name__ == "__main__":
    main(sys.argv[1])
