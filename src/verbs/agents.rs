//! `crossfade agents`: the machines that have joined.

use controller::api::machines::Agents;
use controller::identity::view::{AgentState, AgentView};
use xds::join::Kind;

use super::token::{kind, services};
use super::{Context, Exit, Failure};
use crate::cli::{Output, page, tree};

/// Lists them; below the list, why some are not let in.
pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    let Agents { agents } = context.client.get("/v1/agents").await?;
    if context.output == Output::Json {
        page::json(&agents)?;
        return Ok(Exit::Done);
    }
    let head = ["NAME", "KIND", "STATE", "SERIAL", "EXPIRES", "LAST SEEN", "FROM", "SERVICES"];
    let mut table = page::Table::new(&head);
    for agent in &agents {
        let state = agent.state.as_str();
        let state = match agent.state {
            AgentState::Active => state.to_owned(),
            AgentState::Expired | AgentState::Frozen | AgentState::Revoked => {
                context.paint.bad(state)
            }
        };
        table.row(vec![
            agent.name.clone(),
            kind(agent.gateway.as_ref()),
            state,
            agent.serial.clone(),
            tree::clock(agent.expires),
            tree::clock(agent.last_seen),
            agent.from.to_string(),
            match agent.gateway {
                Some(_) => "-".to_owned(),
                None => services(&agent.services),
            },
        ]);
    }
    let mut text = table.text();
    text.extend(agents.iter().filter_map(end));
    page::print(&text)?;
    Ok(Exit::Done)
}

/// Why a machine is not let in, and what to do.
fn end(agent: &AgentView) -> Option<String> {
    let AgentView { name, state, end, gateway, .. } = agent;
    let end = end.as_ref()?;
    let at = tree::clock(end.at);
    let why = if end.why.is_empty() { String::new() } else { format!(": {}", end.why) };
    let then = match state {
        AgentState::Frozen => {
            let kind = gateway.clone().map_or(Kind::Agent, Kind::Gateway);
            format!("; find out which machine is yours, then: {}", kind.token_command(name))
        }
        AgentState::Active | AgentState::Expired | AgentState::Revoked => String::new(),
    };
    Some(format!("{name} is {} since {at}{why}{then}\n", state.as_str()))
}
