//! Lookup tables: hash, texthash, cidr, regexp, static, inline; aliases.
