import { type AccessEvent, type EdgeAccessLine, edgeAccessLine } from '@roost/api'
import { createLineQueue } from '@roost/base'
import { ACCESS_LINES_PER_SECOND, type AppName, type Host, lineBudget } from '@roost/core'
import type { Deps } from '../deps.ts'
import { listHosts } from '../store/hosts.ts'

export interface AccessLogsRequest {
  readonly app: AppName
  readonly region?: string | undefined
  readonly machine?: string | undefined
  readonly query: boolean
}

type AccessDeps = Pick<Deps, 'store' | 'clock' | 'edge'>

const LINES_WAITING_MAX = 1_000
/** Silence that means that an edge is gone: it says something every 10 s. */
const IDLE_MS = 25_000
const AGAIN_MS = 1_000
const HOSTS_MS = 2_000
/** Edges that have not answered by then are named, and not waited for. */
const FIRST_MS = 3_000
/** What is left out is told no more often than this. */
const LEFT_OUT_MS = 1_000

type Item = EdgeAccessLine & { readonly notice?: string }

/**
 * What all edges answer for an app from now on: one stream from each, for as long as somebody listens. Which edges tell, and what is missing, is said
 * between the requests.
 */
export async function* accessLogs(
  deps: AccessDeps,
  request: AccessLogsRequest,
  signal: AbortSignal,
): AsyncGenerator<AccessEvent> {
  const { clock } = deps
  const ended = new AbortController()
  const either = AbortSignal.any([signal, ended.signal])
  const queue = createLineQueue<Item>(LINES_WAITING_MAX)
  const budget = lineBudget(ACCESS_LINES_PER_SECOND)
  either.addEventListener('abort', () => queue.close(), { once: true })
  if (either.aborted) return
  const notice = (text: string) => ({
    timestamp: new Date(clock.now()).toISOString(),
    notice: text,
  })
  let toldLeftOut = Number.NEGATIVE_INFINITY
  let leftOut = 0
  void readEdges(deps, request, either, {
    line: (line) => {
      if (!queue.offer(line)) budget.miss(1)
    },
    notice: (text) => void queue.push({ notice: text }),
  })
  try {
    for (let item = await queue.pull(); item !== null; item = await queue.pull()) {
      const now = clock.now()
      if (item.notice !== undefined) yield notice(item.notice)
      if (item.left_out !== undefined) budget.miss(item.left_out)
      if (item.request !== undefined && budget.take(now)) yield item.request
      leftOut += budget.leftOut()
      if (leftOut === 0 || Math.abs(now - toldLeftOut) < LEFT_OUT_MS) continue
      toldLeftOut = now
      const requests = leftOut === 1 ? '1 request' : `${leftOut} requests`
      yield notice(`${requests} left out: more than ${ACCESS_LINES_PER_SECOND} a second`)
      leftOut = 0
    }
  } finally {
    ended.abort()
  }
}

interface Heard {
  readonly line: (line: EdgeAccessLine) => void
  readonly notice: (text: string) => void
}

const silence = (host: string) =>
  `the edge of ${host} does not answer: what it is asked is missing here`

/** Those of hosts that join later as well. */
async function readEdges(
  deps: AccessDeps,
  request: AccessLogsRequest,
  signal: AbortSignal,
  heard: Heard,
): Promise<void> {
  const { store, clock } = deps
  const reading = new Map<string, AbortController>()
  const telling = new Set<string>()
  const first = new Set<string>()
  const begun = { told: false }
  /** Once, when all of the first have said that they tell, or are late. */
  const begin = () => {
    if (begun.told || signal.aborted) return
    begun.told = true
    const edges = telling.size === 1 ? '1 edge tells' : `${telling.size} edges tell`
    heard.notice(`${edges} of requests from now on`)
    for (const name of first) heard.notice(silence(name))
  }
  const read = async (host: Host, gone: AbortSignal) => {
    let silent = false
    while (!gone.aborted) {
      try {
        for await (const line of edgeLines(deps, host, request, gone)) {
          if (!telling.has(host.name)) {
            telling.add(host.name)
            const late = first.delete(host.name)
            if (begun.told && (silent || late))
              heard.notice(`the edge of ${host.name} answers again`)
            if (late && first.size === 0) begin()
          }
          silent = false
          heard.line(line)
        }
      } catch {
        // Said below, as an end without an error is.
      }
      if (gone.aborted) return
      telling.delete(host.name)
      if (!silent && begun.told && !first.has(host.name)) heard.notice(silence(host.name))
      silent = true
      await clock.sleep(AGAIN_MS, gone)
    }
  }
  const look = async () => {
    const all = await store.read(listHosts)
    const hosts = all.filter(
      ({ region }) => request.region === undefined || region === request.region,
    )
    for (const [id, gone] of reading)
      if (!hosts.some((host) => host.id === id)) {
        gone.abort()
        reading.delete(id)
      }
    const fresh = hosts.filter(({ id }) => !reading.has(id))
    if (!begun.told) for (const { name } of fresh) first.add(name)
    for (const host of fresh) {
      const gone = new AbortController()
      reading.set(host.id, gone)
      void read(host, AbortSignal.any([signal, gone.signal]))
    }
  }
  await look().catch(() => {})
  if (first.size === 0) begin()
  else void clock.sleep(FIRST_MS, signal).then(begin)
  while (!signal.aborted) {
    await clock.sleep(HOSTS_MS, signal)
    if (!signal.aborted) await look().catch(() => {})
  }
}

async function* edgeLines(
  { edge }: AccessDeps,
  host: Host,
  { app, machine, query }: AccessLogsRequest,
  signal: AbortSignal,
): AsyncGenerator<EdgeAccessLine> {
  const asked = new URLSearchParams({
    app,
    query: String(query),
    ...(machine === undefined ? {} : { machine }),
  })
  const lines = edge(host).lines<unknown>('GET', `/edge/v1/access?${asked}`, {
    signal,
    idleMs: IDLE_MS,
  })
  for await (const value of lines) {
    const line = edgeAccessLine.safeParse(value)
    if (line.success) yield line.data
  }
}
