import { request } from 'node:http'
import { createConnection } from 'node:net'
import type { Clock } from '@roost/base'
import type { CheckSpec, CheckStatus } from '@roost/core'
import type { Checks, CheckTarget } from '../checks.ts'

/** Until a check has passed once, and while it fails: readiness and recovery are seen soon. */
const EAGER_MS = 200
const FAILING_MS = 1000
const OUTPUT_CHARS_MAX = 200

/** Undefined when it passed, else why not. */
export type Probe = (
  spec: CheckSpec,
  address: string,
  signal: AbortSignal,
) => Promise<string | undefined>

/** Checks by connecting to the machine's private address, as an edge would. */
export function createProbeChecks(options: {
  readonly clock: Clock
  readonly probe?: Probe
}): Checks {
  const { clock, probe = probeMachine } = options
  return {
    start(target, heard) {
      const ended = new AbortController()
      const statuses = [...target.known]
      const said = (n: number, status: CheckStatus) => {
        const before = statuses[n]
        if (before?.status === status.status && before.output === status.output) return
        statuses[n] = status
        if (!ended.signal.aborted) heard([...statuses])
      }
      target.specs.forEach((spec, n) => {
        void watchCheck({ target, spec, clock, probe, signal: ended.signal }, statuses[n], (s) =>
          said(n, s),
        )
      })
      return () => ended.abort()
    },
  }
}

async function watchCheck(
  check: {
    readonly target: CheckTarget
    readonly spec: CheckSpec
    readonly clock: Clock
    readonly probe: Probe
    readonly signal: AbortSignal
  },
  known: CheckStatus | undefined,
  say: (status: CheckStatus) => void,
): Promise<void> {
  const { target, spec, clock, probe, signal } = check
  let passedOnce = known?.status === 'passing'
  while (!signal.aborted) {
    const problem = await attempt(check, probe, spec.timeout_ms)
    if (signal.aborted) return
    const now = clock.now()
    const status = { name: spec.name, updatedAt: now }
    if (problem === undefined) {
      passedOnce = true
      say({ ...status, status: 'passing', output: 'Success' })
    } else if (passedOnce || now >= target.startedAt + spec.grace_period_ms)
      say({ ...status, status: 'critical', output: problem.slice(0, OUTPUT_CHARS_MAX) })
    const pause = passedOnce
      ? problem === undefined
        ? spec.interval_ms
        : Math.min(FAILING_MS, spec.interval_ms)
      : EAGER_MS
    await clock.sleep(pause, signal)
  }
}

async function attempt(
  check: {
    readonly target: CheckTarget
    readonly spec: CheckSpec
    readonly signal: AbortSignal
  } & {
    readonly clock: Clock
  },
  probe: Probe,
  timeoutMs: number,
): Promise<string | undefined> {
  const over = new AbortController()
  const signal = AbortSignal.any([check.signal, over.signal])
  const late = check.clock.sleep(timeoutMs, signal).then(() => `no answer within ${timeoutMs} ms`)
  try {
    return await Promise.race([
      probe(check.spec, check.target.address, signal).catch((error: unknown) =>
        error instanceof Error ? error.message : String(error),
      ),
      late,
    ])
  } finally {
    over.abort()
  }
}

const probeMachine: Probe = (spec, address, signal) =>
  spec.type === 'http' ? probeHttp(spec, address, signal) : probeTcp(spec, address, signal)

function probeTcp(
  spec: CheckSpec,
  address: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port: spec.port, signal })
    socket.once('connect', () => {
      resolve(undefined)
      socket.destroy()
    })
    socket.once('error', (error) => resolve(error.message))
  })
}

/** Any 2xx passes. */
function probeHttp(
  spec: CheckSpec,
  address: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const asked = request(
      {
        host: address,
        port: spec.port,
        method: spec.method ?? 'GET',
        path: spec.path ?? '/',
        headers: { 'user-agent': 'roost-check' },
        agent: false,
        signal,
      },
      (reply) => {
        const status = reply.statusCode ?? 0
        resolve(status >= 200 && status < 300 ? undefined : `status ${status}`)
        reply.destroy()
      },
    )
    asked.once('error', (error) => resolve(error.message))
    asked.end()
  })
}
