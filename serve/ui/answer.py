"""The answer for one patient, as HTML and SVG; each drawing has a description for those who cannot see it."""

from html import escape
from typing import Any

from heart.locale.language import Language, number, of, percent, translate, unit, value_of
from heart.schema import NAMES, Measurement
from heart.web.markup import message_html, section
from serve.explain import BY_NAME, Assessment, OutOfRangeValue, sentence


def answer_html(found: Assessment, prediction_id: str, language: Language) -> str:
    """The answer: number and interval, gauge, natural frequency, what moved it, what is missing."""
    parts = [
        _headline(found, language),
        gauge(found, language),
        f'<p class="sentence">{escape(sentence(found, language))}</p>',
        _warnings(found, language),
        _frequency(found, language),
        bars(found, language),
        _missing(found, language),
        f'<p class="small">{escape(translate("interval_how", language))}</p>'
        if found.low is not None
        else "",
        f'<p class="small">{escape(translate("id", language))} <code class="prediction-id">'
        f"{escape(prediction_id)}</code><br>{escape(translate('id_use', language))}</p>",
    ]
    return section(translate("answer", language), "".join(parts), language, hide_title=True)


def _headline(found: Assessment, language: Language) -> str:
    if found.low is None or found.high is None:
        around = translate("no_interval", language)
    else:
        around = translate("interval", language, low=percent(found.low), high=percent(found.high))
    side = "presence" if found.risk >= found.threshold else "absence"
    verdict = translate(side, language, threshold=percent(found.threshold))
    return (
        f'<p class="small">{escape(translate("risk", language))}</p>'
        f'<p class="headline"><data class="risk" value="{found.risk:.6f}">{escape(percent(found.risk))}'
        f'</data> <span class="around">{escape(around)}<br>{escape(verdict)}</span></p>'
    )


def gauge(found: Assessment, language: Language) -> str:
    """The risk on a scale from 0 to 100 %, with its interval, the average and the threshold."""
    described = translate(
        "gauge",
        language,
        risk=percent(found.risk),
        average=percent(found.average),
        threshold=percent(found.threshold),
    )
    at = {"risk": found.risk, "average": found.average, "threshold": found.threshold}
    x = {name: 8 + 384 * share for name, share in at.items()}
    band = ""
    if found.low is not None and found.high is not None:
        start, width = 8 + 384 * found.low, 384 * (found.high - found.low)
        band = f'<rect class="band" x="{start:.1f}" y="14" width="{width:.1f}" height="16" rx="3"/>'
    return (
        f'<svg class="gauge" viewBox="0 0 400 44" role="img"><title>{escape(described)}</title>'
        '<rect class="track" x="8" y="18" width="384" height="8" rx="4"/>'
        f'<rect class="fill" x="8" y="18" width="{384 * found.risk:.1f}" height="8" rx="4"/>{band}'
        f'<line class="cut" x1="{x["threshold"]:.1f}" x2="{x["threshold"]:.1f}" y1="8" y2="36"/>'
        f'<path class="mean" d="M{x["average"]:.1f} 30 l-6 10 h12 z"/>'
        f'<circle class="dot" cx="{x["risk"]:.1f}" cy="22" r="8"/></svg>{_legend(found, language)}'
    )


def _legend(found: Assessment, language: Language) -> str:
    entries = [
        ('<circle class="dot" cx="8" cy="8" r="6"/>', "this_patient", found.risk),
        ('<path class="mean" d="M8 2 l-6 11 h12 z"/>', "average", found.average),
        ('<line class="cut" x1="8" x2="8" y1="0" y2="16"/>', "threshold", found.threshold),
    ]
    items = "".join(
        f'<span><svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">{mark}</svg>'
        f"{escape(translate(key, language))} {escape(percent(share))}</span>"
        for mark, key, share in entries
    )
    return f'<p class="legend">{items}</p>'


def _frequency(found: Assessment, language: Language) -> str:
    count = found.frequency
    average = round(100 * found.average)
    rest = translate("frequency_rest", language, rest=100 - count, average=average)
    title = escape(translate("frequency", language, count=count))
    return f"<h3>{title}</h3>{icons(count, language)}<p>{escape(rest)}</p>"


def icons(count: int, language: Language) -> str:
    """One hundred people as circles, `count` of them filled."""
    circles = "".join(
        f'<circle class="{"sick" if person < count else "well"}" '
        f'cx="{6 + 12 * (person % 20)}" cy="{6 + 12 * (person // 20)}" r="4.4"/>'
        for person in range(100)
    )
    title = escape(translate("icons", language, count=count))
    return (
        f'<svg class="icons" viewBox="0 0 240 60" role="img"><title>{title}</title>{circles}</svg>'
    )


def bars(found: Assessment, language: Language) -> str:
    """What each given measurement adds to or takes from the risk, the largest first."""
    longest = max((abs(moved) for moved in found.contributions.values()), default=0) or 1
    rows = "".join(
        _bar(BY_NAME[name], found.patient[name], moved, moved / longest, language)
        for name, moved in sorted(found.contributions.items(), key=lambda item: -abs(item[1]))
    )
    how = translate("moved_how", language, average=percent(found.start), risk=percent(found.risk))
    title = escape(translate("moved", language))
    return f'<h3>{title}</h3><p class="small">{escape(how)}</p><ul class="bars">{rows}</ul>'


def _bar(
    measurement: Measurement, value: Any, moved: float, length: float, language: Language
) -> str:
    direction = "raises" if moved >= 0 else "lowers"
    sign = "+" if moved >= 0 else "−"  # noqa: RUF001 - a minus sign, as wide as the plus
    points = f"{sign}{number(abs(100 * moved), language, '.1f')}"
    name, shown = of(measurement.label, language), value_of(measurement, value, language)
    start = 50 if moved >= 0 else 50 + 50 * length
    return (
        f'<li><span class="what">{escape(name)} <b>{escape(shown)}</b></span>'
        f'<span class="lane" aria-hidden="true"><i class="{direction}" '
        f'style="left:{start:.1f}%;width:{50 * abs(length):.1f}%"></i></span>'
        f'<span class="points"><span class="unseen">{escape(translate(direction, language))} </span>'
        f"{points}</span></li>"
    )


def _missing(found: Assessment, language: Language) -> str:
    title = translate("given", language, given=found.measurement_count, all=len(NAMES))
    if found.measurement_count == len(NAMES):
        return f'<h3 class="given">{escape(title)}</h3><p>{escape(translate("all_given", language))}</p>'
    rows = "".join(
        f'<li><span class="what">{escape(of(BY_NAME[name].label, language))}</span>'
        f'<span class="lane" aria-hidden="true"><i class="span" '
        f'style="left:{100 * low:.1f}%;width:{max(100 * (high - low), 1):.1f}%"></i>'
        f'<b style="left:{100 * found.risk:.1f}%"></b></span><span class="points">'
        f"{escape(translate('range', language, low=percent(low), high=percent(high)))}</span></li>"
        for name, (low, high) in found.risk_ranges.items()
    )
    how = escape(translate("missing_how", language))
    return (
        f'<h3 class="given">{escape(title)}</h3><p class="small">{how}</p>'
        f'<ul class="bars wide">{rows}</ul>'
    )


def _warnings(found: Assessment, language: Language) -> str:
    return "".join(
        message_html(_warning(warning, language), language, "warn") for warning in found.warnings
    )


def _warning(warning: OutOfRangeValue, language: Language) -> str:
    measurement = BY_NAME[warning.name]
    return translate(
        "unusual",
        language,
        label=of(measurement.label, language),
        value=value_of(measurement, warning.value, language),
        low=number(warning.low, language),
        high=f"{number(warning.high, language)} {unit(measurement, language)}".strip(),
    )
