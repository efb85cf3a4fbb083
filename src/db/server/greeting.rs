//! The first packet of a connection, in which the server says what it is.

use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;

use super::super::error::Error;
use super::unexpected;

/// Bytes of a challenge.
pub(super) const CHALLENGE: usize = 20;

/// What a server says first. Nothing of it is proved.
pub(super) struct Greeting {
    pub(super) capabilities: CapabilityFlags,
    /// What the password is mixed with.
    pub(super) challenge: Vec<u8>,
    /// How it would have users sign in, by the name of a plug-in.
    pub(super) plugin: Vec<u8>,
}

impl Greeting {
    /// Reads it; every length is looked at before it is used.
    pub(super) fn read(packet: &[u8]) -> Result<Self, Error> {
        let cut_short = || unexpected("its greeting is cut short");
        let mut fields = ParseBuf(packet);
        let version = fields.checked_eat_u8().ok_or_else(cut_short)?;
        if version != 10 {
            return Err(unexpected(&format!("its greeting is of version {version}; expected 10")));
        }
        fields.eat_null_str();
        let mut numbers = fields.checked_eat_buf(4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10).ok_or_else(cut_short)?;
        numbers.skip(4);
        let mut challenge = numbers.eat(8).to_vec();
        numbers.skip(1);
        let low = numbers.eat_u16_le();
        numbers.skip(1 + 2);
        let high = numbers.eat_u16_le();
        let length = usize::from(numbers.eat_u8()).saturating_sub(8).max(13);
        challenge.extend(fields.checked_eat(length).ok_or_else(cut_short)?);
        challenge.resize(CHALLENGE, 0);
        let capabilities = CapabilityFlags::from_bits_truncate(u32::from(low) | u32::from(high) << 16);
        if !capabilities
            .contains(CapabilityFlags::CLIENT_PROTOCOL_41 | CapabilityFlags::CLIENT_SECURE_CONNECTION)
        {
            return Err(unexpected("its protocol is that of MySQL 4.0 or older"));
        }
        Ok(Self { capabilities, challenge, plugin: fields.eat_null_str().to_vec() })
    }
}
