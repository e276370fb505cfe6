import { request } from 'node:http'
import { createConnection } from 'node:net'
import type { Clock } from '@roost/base'
import { type CheckSpec, type CheckStatus, describeListening, type MachineId } from '@roost/core'
import type { Checks, CheckTarget } from '../checks.ts'

/** Until a check has passed once, and while it fails: readiness and recovery are seen soon. */
const EAGER_MS = 200
const FAILING_MS = 1000
const OUTPUT_CHARS_MAX = 300
/** What listens is looked for this often, and not before a program had a moment to begin. */
const LISTENING_MS = 1000

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
  /** TCP addresses on which the machine's programs listen. */
  readonly listening?: (id: MachineId) => Promise<readonly string[]>
}): Checks {
  const { clock, probe = probeMachine, listening = null } = options
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
        const refused = whyRefused(target, spec, clock, listening)
        const check = { target, spec, clock, probe, refused, signal: ended.signal }
        void watchCheck(check, statuses[n], (s) => said(n, s))
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
    readonly refused: () => Promise<Refused | null>
    readonly signal: AbortSignal
  },
  known: CheckStatus | undefined,
  say: (status: CheckStatus) => void,
): Promise<void> {
  const { target, spec, clock, probe, refused, signal } = check
  let passedOnce = known?.status === 'passing'
  while (!signal.aborted) {
    const problem = await attempt(check, probe, spec.timeout_ms)
    if (signal.aborted) return
    const now = clock.now()
    const status = { name: spec.name, updatedAt: now }
    if (problem === undefined) {
      passedOnce = true
      say({ ...status, status: 'passing', output: 'Success' })
    } else if (passedOnce || now >= target.startedAt + spec.grace_period_ms) {
      const why = problem.includes('ECONNREFUSED') ? await refused() : null
      if (signal.aborted) return
      const output = why?.output ?? problem
      say({ ...status, ...why, status: 'critical', output: output.slice(0, OUTPUT_CHARS_MAX) })
    }
    const pause = passedOnce
      ? problem === undefined
        ? spec.interval_ms
        : Math.min(FAILING_MS, spec.interval_ms)
      : EAGER_MS
    await clock.sleep(pause, signal)
  }
}

type Refused = Pick<CheckStatus, 'output' | 'listening'>

/** What listens instead of the port that refused; null where nobody can say. */
function whyRefused(
  target: CheckTarget,
  { port }: CheckSpec,
  clock: Clock,
  look: ((id: MachineId) => Promise<readonly string[]>) | null,
): () => Promise<Refused | null> {
  let last: Refused | null = null
  let lookAgainAt = target.startedAt + LISTENING_MS
  return async () => {
    if (look === null || clock.now() < lookAgainAt) return last
    const listening = await look(target.id).catch(() => null)
    lookAgainAt = clock.now() + LISTENING_MS
    last = listening && { output: describeListening(port, listening), listening }
    return last
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
