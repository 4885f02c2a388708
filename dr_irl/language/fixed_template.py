"""Makes a chat template say the same wherever and whenever it is rendered: arguments and the date are written into it.

A tokenizer carries its template everywhere: to samplers, reward models, TRL, and into what is published.
"""

import functools
import logging
from collections.abc import Mapping
from datetime import date
from typing import Any, cast

from jinja2 import Environment, TemplateSyntaxError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from transformers import PreTrainedTokenizerBase

from dr_irl.errors import ModelError
from dr_irl.language.chat import rendered_prompt
from dr_irl.language.rendering import OURS, Rendering
from dr_irl.language.thoughts import marks_among, open_thought

logger = logging.getLogger(__name__)

_CLOCK, _DAY = "strftime_now", "date_string"
_DAY_FORMAT = "%d %b %Y"
_SWITCHES = (False, True, "off", "none")
"""Values that may keep a template from opening a thought."""


class _Generation(Extension):
    """Reads the block in which transformers lets a template mark what the assistant says."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_ENVIRONMENT = Environment(extensions=[_Generation, loopcontrols], autoescape=False)
_ENVIRONMENT.globals.clear()  # names that Jinja would fill in count as variables, too


def fix_template(tokenizer: PreTrainedTokenizerBase, rendering: Rendering) -> None:
    """Write arguments and date into the template of a tokenizer, and close the thought that it opens in a prompt.

    Args:
        tokenizer: modified in place; as it was where its template reads none of these and opens no thought.
        rendering: what the template is given.

    Raises:
        ModelError: the template never reads an argument, renders differently each time, or opens a thought that an
            argument would keep it from opening.
    """
    name, source = tokenizer.name_or_path, _template_of(tokenizer)
    tree = _parsed(source, name)
    free = meta.find_undeclared_variables(tree)
    if unread := sorted(set(rendering.arguments) - free):
        variables = ", ".join(sorted(free - OURS - {_DAY})) or "none"
        raise ModelError(
            f"models.template_arguments: the chat template of {name!r} reads no {', '.join(unread)}; its variables "
            f"are: {variables}"
        )
    _check_chance(tree, free, name)
    values = {variable: repr(value) for variable, value in rendering.arguments.items()}
    day = date.fromisoformat(rendering.date)
    if _DAY in free:
        values = {_DAY: repr(day.strftime(_DAY_FORMAT))} | values
    if _CLOCK in free:
        told = {each: day.strftime(each) for each in _formats(tree, name)}
        values[_CLOCK] = f"{told!r}.get"
    _set_template(tokenizer, _with_values(source, values))
    _name_control_tokens(tokenizer, tree)
    _close_thought(tokenizer, sorted(free - OURS - set(rendering.arguments) - {_DAY}))


def _template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise ModelError(
            f"{tokenizer.name_or_path!r} has several chat templates and none called default; give it a file "
            "chat_template.jinja with the one to use"
        ) from error


def _set_template(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    several = cast(Any, tokenizer.chat_template)
    tokenizer.chat_template = several | {"default": source} if isinstance(several, dict) else source


def _parsed(source: str, name: str) -> nodes.Template:
    try:
        return _ENVIRONMENT.parse(source)
    except TemplateSyntaxError as error:
        raise ModelError(
            f"the chat template of {name!r} cannot be rendered ({error}); mend its chat_template, or name another "
            "instruct model"
        ) from error


def _check_chance(tree: nodes.Template, free: set[str], name: str) -> None:
    if "lipsum" in free or any(used.name == "random" for used in tree.find_all(nodes.Filter)):
        raise ModelError(
            f"the chat template of {name!r} draws at random (lipsum, or the filter random), so that no prompt is "
            "rendered twice the same; mend its chat_template"
        )


def _formats(tree: nodes.Template, name: str) -> list[str]:
    """Return the formats in which a template asks for the date."""
    calls = [call for call in tree.find_all(nodes.Call) if _is_clock(call.node)]
    tests = [test for test in tree.find_all(nodes.Test) if _is_clock(test.node)]
    formats = [
        argument.value
        for call in calls
        for argument in call.args
        if isinstance(argument, nodes.Const) and isinstance(argument.value, str)
    ]
    uses = sum(map(_is_clock, tree.find_all(nodes.Name)))
    if len(formats) != len(calls) or uses != len(calls) + len(tests):
        raise ModelError(
            f"the chat template of {name!r} asks for the date in a form that it works out, and would say another each "
            f"day; let its chat_template call {_CLOCK} with a quoted format"
        )
    return sorted(set(formats))


def _is_clock(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == _CLOCK


def _with_values(source: str, values: Mapping[str, str]) -> str:
    """Put assignments before a template; transformers drops the line break after a block."""
    return "".join(f"{{% set {name} = {value} %}}\n" for name, value in values.items()) + source


def _name_control_tokens(tokenizer: PreTrainedTokenizerBase, tree: nodes.Template) -> None:
    """Tell the tokenizer which tokens the template, or a thought, is made of and are not special: never a prompt's."""
    written = [data.data for data in tree.find_all(nodes.TemplateData)]
    written += [each.value for each in tree.find_all(nodes.Const) if isinstance(each.value, str)]
    plain = [token.content for token in tokenizer.added_tokens_decoder.values() if not token.special]
    control = {text for text in plain if not text.isspace() and any(text in each for each in written)}
    tokenizer.chat_control_tokens = sorted(control | marks_among(plain) | {*(tokenizer.chat_control_tokens or ())})


def _close_thought(tokenizer: PreTrainedTokenizerBase, switches: list[str]) -> None:
    """See that answers do not land inside a thought that the template opens for the model."""
    closing = open_thought(rendered_prompt(tokenizer))
    if closing is None:
        return
    source, name = _template_of(tokenizer), tokenizer.name_or_path
    if found := _switch(tokenizer, switches):
        raise ModelError(
            f"the chat template of {name!r} opens a thought in every prompt, and answers would land in it; set "
            f"models.template_arguments to {{{found}}}, which keeps it from that"
        )
    # Jinja drops one line break at the end of a template, which now is its end no longer.
    _set_template(tokenizer, source.removesuffix("\n") + f"{{{{ {closing!r} if add_generation_prompt else '' }}}}")
    _say_closed(name)


@functools.cache
def _say_closed(name: str) -> None:
    """Say it once, however often the tokenizer is loaded."""
    logger.warning("the chat template of %s opens a thought in every prompt; it is closed there, empty", name)


def _switch(tokenizer: PreTrainedTokenizerBase, names: list[str]) -> str | None:
    """Find an argument with which the template opens no thought, as YAML."""
    likely_first = sorted(names, key=lambda name: (not any(part in name for part in ("think", "reason")), name))
    source = _template_of(tokenizer)
    try:
        for name in likely_first:
            for value in _SWITCHES:
                _set_template(tokenizer, _with_values(source, {name: repr(value)}))
                try:
                    rendered = rendered_prompt(tokenizer)
                except ModelError:  # no value for this variable
                    continue
                if open_thought(rendered) is None:
                    return f"{name}: {str(value).lower()}"
        return None
    finally:
        _set_template(tokenizer, source)
