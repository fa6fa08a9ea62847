//! Bandwidth limits: token buckets (tc-tbf(8)) at the host end of a veth pair.

use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType,
    TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
    TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use rtnetlink::{LinkIfb, LinkUnspec};

use crate::conn::no_link_local_address;
use crate::request::Request;
use crate::{Conn, Error, LinkIndex, Rate, ShapeSpec};

/// The handle of the queue of what comes in.
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0 };

/// Of `linux/if_ether.h`.
const ETH_P_ALL: u16 = 3;

impl Conn {
    /// Limits what passes through the host end of a veth pair that has no limits yet.
    ///
    /// What goes to the sandbox waits for its turn at that end, in one datagram. What comes from the sandbox comes in
    /// there, and the kernel lets nothing wait that comes in: it is led through a link of its own (an ifb), where it
    /// leaves once more, which takes three datagrams. Packets wait at most 50 ms; what would wait longer is dropped, so
    /// that senders slow down.
    ///
    /// The limits go with the pair, the ifb does not: it is for [`Conn::cut`] and [`Conn::reap`], like any link.
    ///
    /// # Errors
    ///
    /// `is_exists()` if the link is limited already, or if there is a link of the name of the ifb. Whatever fails, no
    /// ifb is left behind; one of the two limits may be.
    pub fn shape(&mut self, spec: &ShapeSpec) -> Result<(), Error> {
        if let Some(rate) = spec.to_sandbox {
            let request = Request::add_qdisc("limit", spec.name.as_str(), token_bucket(spec.link, rate));
            self.session.batch([request])?;
        }
        if let Some(rate) = spec.from_sandbox {
            let ifb = LinkIfb::new(spec.ifb.as_str()).build();
            let ifb = self.create_link("create ifb", &spec.ifb, ifb)?.index;
            self.lead_through(spec, ifb, rate).map_err(|error| self.undo(&spec.ifb, error))?;
        }
        Ok(())
    }

    fn lead_through(&mut self, spec: &ShapeSpec, ifb: LinkIndex, rate: Rate) -> Result<(), Error> {
        let (link_name, ifb_name) = (spec.name.as_str(), spec.ifb.as_str());
        self.session.batch([
            Request::set_link("set up", ifb_name, marked(ifb, &spec.alias)),
            Request::add_qdisc("limit", ifb_name, token_bucket(ifb, rate)),
            Request::add_qdisc("open the way into", link_name, ingress(spec.link)),
        ])?;
        // Not in the same datagram: the kernel goes on after a refusal, and packets would be led to nowhere.
        self.session.batch([Request::add_filter("redirect", link_name, redirection(spec.link, ifb))])?;
        Ok(())
    }
}

fn marked(ifb: LinkIndex, alias: &str) -> LinkMessage {
    LinkUnspec::new_with_index(ifb.number())
        .alias(alias)
        .append_extra_attribute(no_link_local_address())
        .up()
        .build()
}

/// `tc qdisc add dev LINK root tbf rate RATE burst BURST latency 50ms`
fn token_bucket(link: LinkIndex, rate: Rate) -> TcMessage {
    /// Of `linux/pkt_sched.h`.
    const TCA_TBF_PARMS: u16 = 1;
    const TCA_TBF_RATE64: u16 = 4;
    const TCA_TBF_BURST: u16 = 6;
    const TC_LINKLAYER_ETHERNET: u8 = 1;

    // `struct tc_tbf_qopt`: two `struct tc_ratespec`, of which the second, the peak rate, is none; the limit of the
    // queue; and two numbers in the kernel's own ticks, for which TCA_TBF_BURST stands. With a link layer the kernel
    // computes by itself what older ones were given as a table.
    let mut parameters = Vec::with_capacity(36);
    parameters.extend([0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0]);
    let bytes_per_second = rate.bytes_per_second();
    parameters.extend(u32::try_from(bytes_per_second).unwrap_or(u32::MAX).to_ne_bytes());
    parameters.extend([0; 12]);
    parameters.extend(rate.queue_bytes().to_ne_bytes());
    parameters.extend([0; 8]);
    let options = [
        (TCA_TBF_PARMS, parameters),
        (TCA_TBF_RATE64, bytes_per_second.to_ne_bytes().to_vec()),
        (TCA_TBF_BURST, rate.burst_bytes().get().to_ne_bytes().to_vec()),
    ];
    let options = options.map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)));
    let mut message = message(link, TcHandle::ROOT, "tbf");
    message.header.handle = TcHandle { major: 1, minor: 0 };
    message.attributes.push(TcAttribute::Options(options.into()));
    message
}

/// `tc qdisc add dev LINK ingress`
fn ingress(link: LinkIndex) -> TcMessage {
    let mut message = message(link, TcHandle::INGRESS, "ingress");
    message.header.handle = INGRESS;
    message
}

/// `tc filter add dev LINK ingress protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev IFB`
fn redirection(link: LinkIndex, ifb: LinkIndex) -> TcMessage {
    let mut every_packet = TcU32Selector::default();
    every_packet.flags = TcU32SelectorFlags::Terminal;
    every_packet.nkeys = 1;
    every_packet.keys = vec![TcU32Key::default()];

    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = ifb.number();
    let mut action = TcAction::default();
    let parameters = TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror));
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![parameters]),
    ];

    let mut message = message(link, INGRESS, TcFilterU32::KIND);
    // The priority, and for which protocol: all, in the byte order of the network.
    message.header.info = TcHandle { major: 1, minor: ETH_P_ALL.to_be() }.into();
    let options = [TcFilterU32Option::Selector(every_packet), TcFilterU32Option::Action(vec![action])];
    message.attributes.push(TcAttribute::Options(options.map(TcOption::U32).into()));
    message
}

fn message(link: LinkIndex, parent: TcHandle, kind: &str) -> TcMessage {
    let mut message = TcMessage::with_index(link.number().cast_signed());
    message.header.parent = parent;
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    message
}
