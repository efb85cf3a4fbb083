//! `duly process-lost-orders`: sends orders again whose transfer to the ERP failed.

use std::sync::Arc;

use anyhow::Result;

use super::lost_orders::no_such_order;
use super::shop_job::ShopJob;
use super::{Context, Usage};
use crate::cli::ProcessLostOrdersArgs;
use crate::exit_code::ExitCode;
use crate::job::Builtin;
use crate::job::shop::{ORDER, OrderState};
use crate::shop::lost_orders;
use crate::store::StoreError;

pub(super) fn run(context: &Context, args: &ProcessLostOrdersArgs) -> Result<ExitCode> {
    let config = Arc::new(context.config()?);
    let Some(settings) = &config.lost_orders else {
        return Err(Usage(format!(
            "{} does not say how orders are sent; add lost_orders: {{send: {{command: [bin/send-to-erp]}}}}",
            config.path.display()
        ))
        .into());
    };
    let table = &settings.table;
    let names = ("lost_orders", table.table.as_str(), table.columns());
    let target = (args.order.as_ref().map(|_| ORDER.to_owned()), args.order.clone());
    let named = args.order.as_deref();
    ShopJob { config: &config, builtin: Builtin::ProcessLostOrders, target, names }.run(
        |store| {
            let Some(order_id) = named else { return store.has_order_work(table) };
            let refused = |why| Err(StoreError::Unknown(why));
            let Some(order) = store.lost_order(table, order_id)? else {
                return refused(no_such_order(table, order_id));
            };
            match order.state {
                Some(OrderState::Lost | OrderState::GivenUp) => Ok(true),
                Some(OrderState::Sending) => {
                    Err(StoreError::HeldBack(format!("order `{order_id}` is being sent at this moment")))
                }
                Some(OrderState::Removed) => {
                    refused(format!("order `{order_id}` was removed; `duly lost-orders add` puts it back"))
                }
                Some(OrderState::Confirmed) | None => refused(format!(
                    "order `{order_id}` is `{}` and not lost; nothing is sent",
                    order.stored_state
                )),
            }
        },
        |shop, tell| lost_orders::run(shop, settings, named, tell),
    )
}
