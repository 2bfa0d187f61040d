//! Exact money: a decimal and an ISO 4217 currency code.

use crate::refusal::{Refusal, Refused};
use hansa_proto::google::r#type::Money;
use rust_decimal::Decimal;

const NANOS: i64 = 1_000_000_000;

/// Returns the exact amount of a `Money` message.
///
/// # Errors
/// `INVALID_FIELD` if the currency is not a code of three capitals, or if units and nanos differ in sign.
pub fn amount(field: &str, money: &Money) -> Refused<Decimal> {
    if money.currency_code.len() != 3 || !money.currency_code.chars().all(|c| c.is_ascii_uppercase()) {
        return Err(Refusal::field(format!("{field}.currency_code"), "is not a code of three capitals (ISO 4217)"));
    }
    let nanos = i64::from(money.nanos);
    if nanos.abs() >= NANOS || (money.units > 0 && nanos < 0) || (money.units < 0 && nanos > 0) {
        return Err(Refusal::field(format!("{field}.nanos"), "must be below one unit and of the same sign"));
    }
    Ok(Decimal::from(money.units) + Decimal::new(nanos, 9))
}

/// Returns the amount of a cost, which must not be negative.
///
/// # Errors
/// `INVALID_FIELD` if [`amount`] refuses the money, or if it is negative.
pub fn cost(field: &str, money: &Money) -> Refused<Decimal> {
    let amount = amount(field, money)?;
    if amount.is_sign_negative() && !amount.is_zero() {
        return Err(Refusal::field(field, "is negative"));
    }
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(currency: &str, units: i64, nanos: i32) -> Money {
        Money { currency_code: currency.into(), units, nanos }
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(amount("m", &money("EUR", 1, 10_000_000)).unwrap().to_string(), "1.010000000");
        assert_eq!(
            amount("m", &money("EUR", i64::MAX, 999_999_999)).unwrap().to_string(),
            "9223372036854775807.999999999"
        );
        for bad in [
            money("eur", 1, 0),
            money("EURO", 1, 0),
            money("EUR", 1, -1),
            money("EUR", -1, 1),
            money("EUR", 0, 1_000_000_000),
        ] {
            assert!(amount("m", &bad).is_err(), "{bad:?}");
        }
        assert!(cost("m", &money("EUR", -1, 0)).is_err());
    }
}
