import { readFile } from 'node:fs/promises'
import { type Clock, type Logger, runCommand, startLoop } from '@roost/base'
import type { HostId, Revision, Route } from '@roost/core'
import type { ServicePorts } from '../haproxy/render-services.ts'
import { occupiedPorts } from './occupied-ports.ts'
import { noPortRules, portRules } from './port-rules.ts'
import { parseFlows, staleFlows } from './stale-flows.ts'

/** Keeps the host's rules for ports as the routes are. They stay when this program ends, as HAProxy does. */
export interface PortForwarder {
  wake(): void
  /** The last revision whose ports lead where they should, or can't be made to; 0 before the first. Machines that left get nothing any more. */
  applied(): Revision
  stop(options: { readonly remove: boolean }): Promise<void>
}

/** How often all is looked at without a reason: rules that somebody flushed come back. */
const MEND_MS = 30_000
const LAP_MS = 1000
/** A flow has about 170 bytes, a table of the kernel usually 262,144 of them. */
const FLOWS_BYTES_MAX = 64_000_000

export function startPortForwarder(options: {
  readonly table: string
  readonly address: string
  readonly ports: ServicePorts
  readonly httpsPort: number | null
  readonly self: HostId
  readonly desired: () => { readonly revision: Revision; readonly routes: readonly Route[] }
  /** `applied` is another now. */
  readonly onApplied: () => void
  readonly clock: Clock
  readonly log: Logger
}): PortForwarder {
  const { table, address, log } = options
  let applied: string | null = null
  let appliedAt = Number.NEGATIVE_INFINITY
  let revision: Revision = 0
  let hadUdp = false
  /** Keys of the routes that lead somewhere now. */
  let led: ReadonlySet<string> = new Set()
  let said = ''
  let trouble = ''

  async function lap(): Promise<void> {
    const desired = options.desired()
    await bringThere(desired.routes)
    // Also where it could not be done, which is said: HAProxy's services must not wait for it.
    if (revision === desired.revision) return
    revision = desired.revision
    options.onApplied()
  }

  async function bringThere(wanted: readonly Route[]): Promise<void> {
    const routes = await withoutOccupied(wanted)
    const rules = portRules({ ...options, routes }) ?? noPortRules(table)
    const hasUdp = routes.some(({ listener }) => listener?.kind === 'udp')
    const changed = rules !== applied
    if (!changed && performance.now() - appliedAt < MEND_MS) return
    try {
      if (changed || !(await isThere())) await runCommand(['nft', '-f', '-'], { input: rules })
      if (hasUdp || hadUdp) await forgetStale(routes)
      applied = rules
      appliedAt = performance.now()
      hadUdp = hasUdp
      led = new Set(routes.map(({ key }) => key))
      if (trouble !== '') log.info('the ports of services are right again')
      trouble = ''
    } catch (error) {
      if (trouble !== String(error)) log.error('lead ports to their services', { error })
      trouble = String(error)
    }
  }

  /** Of what there is to be. */
  async function isThere(): Promise<boolean> {
    if (applied === noPortRules(table)) return true
    return runCommand(['nft', 'list', 'table', 'ip', table]).then(
      () => true,
      () => false,
    )
  }

  /** What the host itself listens on is not taken from it. A program that comes later, on a port of its choice, comes too late. */
  async function withoutOccupied(routes: readonly Route[]): Promise<readonly Route[]> {
    const isNew = ({ key, listener }: Route) =>
      listener !== undefined && listener.from !== 443 && !led.has(key)
    if (!routes.some(isNew)) return routes
    const occupied = (
      await Promise.all(
        (['tcp', 'udp'] as const).map(async (protocol) =>
          occupiedPorts(
            protocol,
            await readFile(`/proc/net/${protocol}`, 'utf8').catch(() => ''),
            address,
          ),
        ),
      )
    ).flat()
    const clashes: string[] = []
    const free = routes.filter((route) => {
      const { key, listener } = route
      if (listener === undefined || !isNew(route)) return true
      const clash = occupied.find(
        ({ protocol, port }) =>
          (protocol === 'udp') === (listener.kind === 'udp') &&
          listener.from <= port &&
          port <= listener.to,
      )
      if (clash !== undefined) clashes.push(`${key}: ${clash.port}/${clash.protocol}`)
      return clash === undefined
    })
    const text = clashes.join(', ')
    if (text !== said && text !== '')
      log.error('ports that another program of this host listens on are not taken from it', {
        ports: text,
      })
    said = text
    return free
  }

  async function forgetStale(routes: readonly Route[]): Promise<void> {
    const { stdout } = await runCommand(['conntrack', '-L', '-p', 'udp', '--orig-dst', address], {
      outputBytesMax: FLOWS_BYTES_MAX,
    })
    // All conversations of a port with one receiver at once: there may be thousands, and they are stale together.
    const pairs = new Map(
      staleFlows(parseFlows(stdout), routes, address).map((flow) => [
        `${flow.port} ${flow.receiver}`,
        flow,
      ]),
    )
    for (const { port, receiver } of pairs.values())
      await runCommand([
        'conntrack',
        ...['-D', '-p', 'udp', '--orig-dst', address],
        ...['--dport', `${port}`, '--reply-src', receiver],
      ]).catch(() => {
        // They ended by themselves.
      })
  }

  const loop = startLoop({ name: 'ports', periodMs: LAP_MS, clock: options.clock, log, lap })
  return {
    wake: () => loop.wake(),
    applied: () => revision,
    async stop({ remove }) {
      await loop.stop()
      if (remove) await runCommand(['nft', '-f', '-'], { input: noPortRules(table) })
    },
  }
}
