"""The built-in detectors: personal data, secrets, injected instructions and threats."""

from __future__ import annotations

from typing import Final

from portico_server.core.detectors import Detector
from portico_server.core.secret_detectors import SECRETS
from portico_server.features.guards.checks import (
    check_card,
    check_cn_id,
    check_email,
    check_iban,
    check_ipv4,
    check_ipv6,
    check_not_denied,
    check_phone,
    check_ssn,
)

_PERSONAL: Final = (
    Detector(
        "email",
        "[EMAIL]",
        (
            r"(?i)[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+",
        ),
        check_email,
        reach=128,
    ),
    Detector(
        "card",
        "[CARD]",
        (r"\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{1,7}|\d{4}[ -]\d{6}[ -]\d{4,5}|\d{13,19}",),
        check_card,
        reach=32,
    ),
    Detector("iban", "[IBAN]", (r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,40}",), check_iban, reach=64),
    Detector("cn_resident_id", "[RESIDENT_ID]", (r"\d{17}[\dXx]",), check_cn_id, reach=24),
    Detector("us_ssn", "[SSN]", (r"\d{3}-\d{2}-\d{4}",), check_ssn, reach=16),
    Detector(
        "phone",
        "[PHONE]",
        (
            r"\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}",
            r"1[3-9]\d(?:[ -]?\d{4}){2}|0\d{2,3}-\d{7,8}",
            r"\([2-9]\d{2}\) ?[2-9]\d{2}[.-]\d{4}|[2-9]\d{2}[.-][2-9]\d{2}[.-]\d{4}",
        ),
        check_phone,
        reach=32,
    ),
    Detector("ip_address", "[IP]", (r"\d{1,3}(?:\.\d{1,3}){3}",), check_ipv4, reach=24),
    Detector("ip_address", "[IP]", (r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,8}",), check_ipv6, reach=48),
)

_INJECTIONS: Final = (
    Detector(
        "injected_instruction",
        "[INSTRUCTION]",
        (
            r"(?i)\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,30}?\b(?:all|any|previous|prior|above|earlier|preceding|your|system)\b"
            r"[^.\n]{0,30}?\b(?:instructions?|prompts?|rules|guidelines|directions|commands)\b",
            r"(?i)\byou are now\b[^.\n]{0,40}?\b(?:DAN|jailbroken|unrestricted|developer mode"
            r"|without (?:any )?(?:restrictions|rules|limits|filters))\b",
            r"(?i)\b(?:reveal|print|show|repeat|output|disclose|leak|send)\b[^.\n]{0,30}?\b(?:system|hidden"
            r"|initial|secret|developer) (?:prompt|instructions|message)\b",
            r"(?i)\b(?:do not|don't|never|without) (?:tell|inform|mention|alert|telling|informing"
            r"|alerting)\b[^.\n]{0,20}?\buser\b",
            r"<\|(?:im_start|im_end|system|user|assistant|endoftext|start_header_id|eot_id)\|>|\[/?INST\]|<</?SYS>>",
            r"(?im)^\s*(?:system|new (?:system )?instructions?|important instructions?)\s*:\s*(?:you (?:are|must"
            r"|will)|ignore|from now|always|never|do not)\b",
        ),
        check_not_denied,
        reach=160,
    ),
    Detector(
        "injected_instruction",
        "[INSTRUCTION]",
        (
            r"(?:忽略|无视|無視|忘记|忘記|忘掉|不要理会|不用管|抛开|绕过)[^。！？\n]{0,10}?(?:之前|以上|上面|上述|先前|前面|所有|全部|一切|你的|原来|系统)"
            r"[^。！？\n]{0,8}?(?:指令|指示|提示|命令|规则|規則|设定|限制|约束)",
            r"(?:输出|显示|告诉我|泄露|打印|重复|公开|发给我|说出|輸出)[^。！？\n]{0,10}?(?:系统提示|系统指令|系统消息|初始提示|隐藏指令|系統提示|提示词)",
            r"(?:不要|别|不得|切勿)(?:告诉|告知|通知|提醒|让)[^。！？\n]{0,4}?用户",
            r"从现在(?:开始|起)[^。！？\n]{0,16}?(?:不受|没有(?:任何)?限制|不再(?:受|遵守)|无视|越狱)",
        ),
        check_not_denied,
        reach=160,
    ),
)

_THREATS: Final = (
    Detector(
        "self_harm_intent",
        "[SELF_HARM]",
        (
            r"(?i)\bi(?:'m|’m| am)? (?:really |just )?(?:want|wanna|going|plan|planning"
            r"|intend) (?:to )?(?:kill myself|end my (?:own )?life|commit suicide|hurt myself|cut myself)\b",
            r"我(?:真的|好|很|现在)?(?:想|想要|要|打算|准备)(?:自杀|自残|轻生|结束(?:我的|自己的)?生命|了结自己|割腕)",
        ),
        reach=80,
    ),
    Detector(
        "threat",
        "[THREAT]",
        (
            r"(?i)\bi(?:'ll|’ll| will|'m going to|’m going to| am going to|'m gonna) "
            r"(?:kill|murder|shoot|stab|strangle|hurt) (?:you|him|her|them|your (?:family|kids|wife|husband"
            r"|children))\b",
            r"我(?:一定|迟早|今晚|明天)?(?:要|会)?(?:杀了|弄死|砍死|打死|捅死|宰了)(?:你|他|她)",
        ),
        reach=80,
    ),
    Detector(
        "insult", "[INSULT]", (r"(?i)\b(?:go )?kill yourself\b|\bgo die\b", r"你?(?:怎么不)?去死吧"), reach=24
    ),
)

GROUPS: Final = {"pii": _PERSONAL, "secrets": SECRETS, "injection": _INJECTIONS, "threats": _THREATS}
"""The built-in detectors, by group name."""

KINDS: Final = {
    detector.kind: tuple(other for group in GROUPS.values() for other in group if other.kind == detector.kind)
    for detectors in GROUPS.values()
    for detector in detectors
}
"""The built-in detectors by kind. Several detectors can find the same kind of content."""
