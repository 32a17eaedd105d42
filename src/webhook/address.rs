//! Which addresses a webhook may be sent to: those that anybody could reach.
//!
//! The lists are the special-purpose registries of IANA (RFC 6890 and its successors). What is not
//! in them as globally reachable is refused: loopback, private, link-local (where clouds keep their
//! metadata), shared, reserved, multicast. IPv6 addresses that carry an IPv4 address (mapped,
//! translated, 6to4) are judged by that one, too.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// A network in CIDR notation, such as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Network {
    address: IpAddr,
    /// Bits that count: 0 to 32, or to 128.
    prefix: u8,
}

/// Why a text is no network; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network; write it like `10.0.0.0/8` or `::1`")]
pub struct NetworkError(String);

/// Networks of IPv4 that are not everybody's.
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Networks within `2000::/3`, the one that is given out, that are not everybody's.
const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 3] = [
    // Protocol assignments, Teredo and ORCHID among them.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether a webhook may be sent to `address`: it is public, or in one of `allowed`.
pub fn may_receive(address: IpAddr, allowed: &[Network]) -> bool {
    is_public(address) || is_among(address, allowed)
}

/// Whether `address` is in one of these networks. An IPv4 address that is written as an IPv6 one
/// counts as what it is.
pub fn is_among(address: IpAddr, networks: &[Network]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(address))
}

/// Whether anybody on the internet could reach `address`.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match carried(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(network, prefix): &(Ipv4Addr, u8)| {
        v4_bits(address, *prefix) == v4_bits(*network, *prefix)
    };
    !NOT_PUBLIC_V4.iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let given_out = v6_bits(address, 3) == v6_bits(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
    let within = |(network, prefix): &(Ipv6Addr, u8)| {
        v6_bits(address, *prefix) == v6_bits(*network, *prefix)
    };
    given_out && !NOT_PUBLIC_V6.iter().any(within)
}

/// The IPv4 address that packets to an IPv6 address end up at.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        // Mapped, and the older form of it; translated by NAT64.
        [0, 0, 0, 0, 0, 0xffff | 0] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(of(g, h)),
        // 6to4.
        [0x2002, ..] => Some(of(b, c)),
        _ => None,
    }
}

fn v4_bits(address: Ipv4Addr, prefix: u8) -> u32 {
    let rest = 32_u32.saturating_sub(u32::from(prefix));
    address.to_bits().checked_shr(rest).unwrap_or(0)
}

fn v6_bits(address: Ipv6Addr, prefix: u8) -> u128 {
    let rest = 128_u32.saturating_sub(u32::from(prefix));
    address.to_bits().checked_shr(rest).unwrap_or(0)
}

// === impl Network ===

impl Network {
    /// Whether an address is in it. Addresses of the other version are not.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                v4_bits(network, self.prefix) == v4_bits(address, self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                v6_bits(network, self.prefix) == v6_bits(address, self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(prefix) => {
                prefix.trim().parse().ok().filter(|prefix| *prefix <= most).ok_or_else(wrong)?
            }
        };
        Ok(Self { address, prefix })
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
