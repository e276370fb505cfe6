import type { Route } from '@roost/core'
import { udpTargets } from './port-rules.ts'

/** A conversation over UDP that the kernel still sends where it went when it began. */
export interface Flow {
  readonly source: string
  readonly sourcePort: number
  readonly port: number
  /** Who gets it. */
  readonly receiver: string
}

/** Reads `conntrack -L -p udp`: of each flow, first what was sent, then what an answer would look like. */
export function parseFlows(text: string): readonly Flow[] {
  return text.split('\n').flatMap((line) => {
    const match =
      /src=(\S+) dst=\S+ sport=(\d+) dport=(\d+) .*?src=(\S+) dst=\S+ sport=\d+ dport=\d+/.exec(
        line,
      )
    if (match === null) return []
    const [, source = '', sourcePort, port, receiver = ''] = match
    return [{ source, sourcePort: Number(sourcePort), port: Number(port), receiver }]
  })
}

/** Those that go to a machine which does not serve their port (any more), or to none though one does. */
export function staleFlows(
  flows: readonly Flow[],
  routes: readonly Route[],
  address: string,
): readonly Flow[] {
  const served = routes.flatMap((route) =>
    route.listener?.kind === 'udp' ? [{ ...route.listener, to: route.listener.to, route }] : [],
  )
  return flows.filter(({ port, receiver }) => {
    const here = served.find(({ from, to }) => from <= port && port <= to)
    const targets = here === undefined ? [] : udpTargets(here.route)
    if (targets.length === 0) return receiver !== address
    return targets.every((target) => target.address !== receiver)
  })
}
