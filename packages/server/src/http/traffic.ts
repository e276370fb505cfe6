import { edgeTrafficReply } from '@roost/api'
import { PlatformError } from '@roost/base'
import { answersIn, failuresIn, type Host, quantileMs, sumTraffic, type Traffic } from '@roost/core'
import type { z } from 'zod'
import type { Deps } from '../deps.ts'
import { getApp } from '../store/apps.ts'
import { listHosts } from '../store/hosts.ts'
import type { Handlers } from './handler.ts'

/** Nobody who looks at an app waits longer for an edge that does not answer. */
const EDGE_MS = 2000

/** What the edges have counted: asked for when somebody looks, and kept nowhere. */
export function trafficHandlers(deps: Pick<Deps, 'store' | 'edge'>): Pick<Handlers, 'appTraffic'> {
  const ask = (host: Host, app: string, signal: AbortSignal) =>
    deps
      .edge(host)
      .json('GET', `/edge/v1/traffic?app=${encodeURIComponent(app)}`, undefined, {
        signal,
        timeoutMs: EDGE_MS,
      })
      .then((reply) => edgeTrafficReply.parse(reply))
  return {
    appTraffic: async ({ params, signal }) => {
      const hosts = await deps.store.read(async (reader) => {
        if ((await getApp(reader, params.app)) === null)
          throw new PlatformError('not_found', 'app not found')
        return listHosts(reader)
      })
      const told = await Promise.all(
        hosts.map((host) =>
          host.status === 'ok' ? ask(host, params.app, signal).catch(() => null) : null,
        ),
      )
      const replies = told.filter((reply) => reply !== null)
      const minutes = Math.max(0, ...replies.map((reply) => reply.minutes))
      const byMachine = new Map<string | null, Source[]>()
      for (const source of replies.flatMap(({ sources }) => sources))
        byMachine.set(source.machine, [...(byMachine.get(source.machine) ?? []), source])
      return {
        minutes,
        total: numbersOf([...byMachine.values()].flat(), minutes),
        machines: [...byMachine].map(([id, sources]) => ({ id, ...numbersOf(sources, minutes) })),
        silent: hosts.filter((_, n) => told[n] === null).map(({ name }) => name),
      }
    },
  }
}

type Source = z.output<typeof edgeTrafficReply>['sources'][number]

function numbersOf(sources: readonly Source[], minutes: number) {
  const traffic = sumTraffic(sources.map(trafficOf))
  const requests = answersIn(traffic)
  return {
    requests,
    per_second: minutes === 0 ? 0 : requests / (minutes * 60),
    failed: failuresIn(traffic),
    p50_ms: quantileMs(traffic, 0.5),
    p99_ms: quantileMs(traffic, 0.99),
    bytes_in: traffic.bytesIn,
    bytes_out: traffic.bytesOut,
    responses: traffic.responses,
    concurrency: sources.reduce((sum, { concurrency }) => sum + concurrency, 0),
  }
}

const trafficOf = ({ responses, bytes_in, bytes_out, durations }: Source): Traffic => ({
  responses,
  bytesIn: bytes_in,
  bytesOut: bytes_out,
  durations,
})
