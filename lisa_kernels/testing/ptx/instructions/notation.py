"""Groups of modifiers that several syntax lines share."""

INT16_UP = "(u16|s16|u32|s32|u64|s64)"
INT32_UP = "(u32|s32|u64|s64)"
INT8_UP = "(u8|s8|u16|s16|u32|s32|u64|s64)"
BITS = "(b16|b32|b64)"
ROUNDING = "(rn|rz|rm|rp)"
SCOPE = "[.cta|.cluster|.gpu|.sys]"
STATE_SPACE = "[.global|.shared|.shared::cta|.local|.const|.param|.param::entry|.param::func]"
