import type { Clock } from '@roost/base'
import {
  type CheckSpec,
  type CheckStatus,
  type CheckTally,
  describeListening,
  type Instant,
  type MachineId,
  NEW_TALLY,
  nextCheckAt,
  tally,
} from '@roost/core'
import type { Checks, CheckTarget } from '../checks.ts'
import { type Probe, type ProbeResult, probeMachine } from './probe-machine.ts'

const OUTPUT_CHARS_MAX = 300
const EXEC_MS_MIN = 1000
/** Another text for the same state is said no sooner: bodies carry times and numbers. */
const SAME_SAID_MS = 30_000
/** What listens is looked for this often, and not before a program had a moment to begin. */
const LISTENING_MS = 1000

/** Checks by connecting to the machine's private address, as an edge would. */
/** As `Probe`, of a check of one container. */
export type ContainerProbe = (
  target: Pick<CheckTarget, 'id' | 'address'>,
  spec: CheckSpec,
  container: string,
  signal: AbortSignal,
) => Promise<ProbeResult>

export function createProbeChecks(options: {
  readonly clock: Clock
  readonly probe?: Probe
  /** Looks from inside: as those of containers are meant. */
  readonly probeContainer?: ContainerProbe
  /** TCP addresses on which the machine's programs listen. */
  readonly listening?: (id: MachineId) => Promise<readonly string[]>
}): Checks {
  const { clock, probe = probeMachine, probeContainer = null, listening = null } = options
  return {
    start(target, heard) {
      const ended = new AbortController()
      const statuses = [...target.known]
      const said = (n: number, status: CheckStatus) => {
        const before = statuses[n]
        if (before !== undefined && isSame(before, status)) return
        statuses[n] = status
        if (!ended.signal.aborted) heard([...statuses])
      }
      target.specs.forEach((spec, n) => {
        const refused = whyRefused(target, spec, clock, listening)
        const { of } = spec
        const look: Probe =
          of === undefined || probeContainer === null
            ? probe
            : (one, _, signal) => probeContainer(target, one, of.container, signal)
        const check = { target, spec, clock, probe: look, refused, signal: ended.signal }
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
  let passedAt: Instant | null = known?.status === 'passing' ? known.updatedAt : null
  let stands: CheckTally = known ? { ...NEW_TALLY, status: known.status } : NEW_TALLY
  const key = `${target.id}/${spec.name}`
  const pause = async (passing: boolean) => {
    const { interval_ms: intervalMs } = spec
    const { startedAt } = target
    const now = clock.now()
    const next = nextCheckAt({ key, intervalMs, passing, passedAt, startedAt }, now)
    // A program that is started for it costs more than a connection.
    await clock.sleep(Math.max(next - now, spec.type === 'exec' ? EXEC_MS_MIN : 0), signal)
  }
  // Who is known to pass is looked at in its turn: an agent that starts anew has many of them.
  if (passedAt !== null) await pause(true)
  while (!signal.aborted) {
    const result = await attempt(check, probe, spec.timeout_ms)
    if (signal.aborted) return
    const now = clock.now()
    const { kind } = spec
    const status = { name: spec.name, updatedAt: now, ...(kind === undefined ? {} : { kind }) }
    if (spec.of !== undefined) {
      if (result.passing) passedAt = now
      stands = tally(spec.of, stands, { passing: result.passing, startedAt: target.startedAt }, now)
      const output = result.output.slice(0, OUTPUT_CHARS_MAX)
      // Between two thresholds it stays what it was, and says what was seen last.
      say({ ...status, status: stands.status, output })
    } else if (result.passing) {
      passedAt = now
      const output = result.output.slice(0, OUTPUT_CHARS_MAX)
      say({ ...status, status: 'passing', output })
    } else if (passedAt !== null || now >= target.startedAt + spec.grace_period_ms) {
      const why = result.refused ? await refused() : null
      if (signal.aborted) return
      const output = why?.output ?? result.output
      say({ ...status, ...why, status: 'critical', output: output.slice(0, OUTPUT_CHARS_MAX) })
    }
    await pause(result.passing)
  }
}

/** Nothing to tell: the state is what it was, and its text too, or only another one soon after. */
function isSame(before: CheckStatus, after: CheckStatus): boolean {
  if (before.status !== after.status) return false
  if (JSON.stringify(before.listening) !== JSON.stringify(after.listening)) return false
  if (after.status === 'passing' || before.output === after.output) return true
  return Math.abs(after.updatedAt - before.updatedAt) < SAME_SAID_MS
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
): Promise<ProbeResult> {
  const over = new AbortController()
  const signal = AbortSignal.any([check.signal, over.signal])
  const inTime = timeoutMs < 1000 ? `${timeoutMs} ms` : `${timeoutMs / 1000} s`
  const late = check.clock
    .sleep(timeoutMs, signal)
    .then((): ProbeResult => ({ passing: false, output: `no answer within ${inTime}` }))
  const running = probe(check.spec, check.target.address, signal).catch(
    (error: unknown): ProbeResult => ({
      passing: false,
      output: error instanceof Error ? error.message : String(error),
    }),
  )
  try {
    return await Promise.race([running, late])
  } finally {
    over.abort()
    // It lets go when it is told to: the next run never begins beside it.
    await running
  }
}
