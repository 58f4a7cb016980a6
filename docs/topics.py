"""Writes the picture and the table of topics in architecture.md from `libs.wire.topics`: python docs/topics.py"""

from __future__ import annotations

from pathlib import Path

from libs.wire.topics import DATA_TOPICS, DAY_MS, TOPICS, TopicDeclaration

PAGE = Path(__file__).resolve().parent / "architecture.md"
BEGIN, END = "<!-- topics: written by docs/topics.py -->", "<!-- end of topics -->"
# They read everything (monitoring: nearly), which would hide the rest of the picture.
_ONLOOKERS = frozenset({"recorder", "monitoring"})


def render() -> str:
    """Return the block: who writes what, who reads it, for how long it is kept."""
    data = [TOPICS[name] for name in DATA_TOPICS]
    lines = ["```mermaid", "flowchart LR"]
    for topic in data:
        node = topic.name.replace(".", "_")
        lines.append(f"  {node}[/{topic.name}/]")
        lines += [f"  {producer} --> {node}" for producer in topic.producers]
        lines += [f"  {node} --> {consumer}" for consumer in topic.consumers if consumer not in _ONLOOKERS]
    lines += ["```", "", "| topic | key | written by | read by | kept |", "|---|---|---|---|---|"]
    lines += [
        f"| {topic.name} | {topic.key} | {', '.join(topic.producers)} | {', '.join(topic.consumers)} | {_kept(topic)} |"
        for topic in data
    ]
    return "\n".join(lines)


def _kept(topic: TopicDeclaration) -> str:
    return f"{topic.retention_ms // DAY_MS} days" if topic.retention_ms else "for ever"


def insert(page: str, block: str) -> str:
    """Return the page with the block between its marks. Raises ValueError where the marks are missing."""
    if BEGIN not in page or END not in page:
        raise ValueError(f"{PAGE.name} lacks the marks {BEGIN!r} and {END!r}")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{block}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(insert(PAGE.read_text(encoding="utf-8"), render()), encoding="utf-8")
