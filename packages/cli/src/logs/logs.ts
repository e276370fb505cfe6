import { type AccessLine, type ApiClient, ApiError, type LogLine } from '@roost/api'
import { type Clock, systemClock } from '@roost/base'
import { type Command, InvalidArgumentError } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { checkedMachineId } from '../machine/machine-id.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { harmless, styleOf } from '../terminal/style.ts'
import { followAccess } from './access.ts'

interface Options extends AppOptions {
  readonly follow?: boolean
  /** Commander's word for `--no-tail`. */
  readonly tail?: boolean
  readonly lines: number | true
  /** RFC 3339. */
  readonly since?: string
  readonly machine?: string
  readonly container?: string
  readonly region?: string
  readonly json?: boolean
  /** Requests instead of lines. */
  readonly access?: boolean
  readonly query?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent.command('logs').description('What the machines of an app print, the oldest line first'),
  )
    .option('-f, --follow', 'go on with new lines until Ctrl-C')
    .option('--no-tail', 'end after the lines that there are, as without --follow')
    .option('-n, --lines [number]', 'how many of the last lines to begin with', lineCount, LINES)
    .option(
      '--since <time>',
      'only later lines: 10m, 2h, 3d, or a time such as 2026-01-31T12:00Z',
      timeOf,
    )
    .option('--machine <id>', 'only of one machine, also one that has gone')
    .option('--container <name>', 'only of one container, in machines that have several')
    .option('--region <code>', 'only of one region')
    .option(
      '--access',
      'requests as all edges answer them, from now on until Ctrl-C; none are kept, so there are no earlier ones',
    )
    .option('--query', 'with --access: paths with what follows their ?, which may hold secrets')
  explained(command, {
    examples: [
      'roost logs -f',
      'roost logs -a shop -n 500 --region ams',
      'roost logs --since 10m --no-tail',
      'roost logs --json | jq -r .message',
      'roost logs --access',
    ],
    json: `one object a line: {timestamp, machine, container?, region, host, message}
with --access: {timestamp, region, host, client, method, path, status, bytes_in, bytes_out,
  duration_ms, machine, request_id}; what is missing is said on standard error`,
  })
  command.action((options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      const style = styleOf(context, context.stdout)
      const run = {
        signal: context.interrupted(),
        warn: (text: string) =>
          context.stderr.write(`${styleOf(context, context.stderr).yellow(text)}\n`),
      }
      if (options.query && !options.access) throw usage('--query goes with --access')
      if (options.access) {
        refuseWithAccess(options)
        const tell = (line: AccessLine) =>
          context.stdout.write(
            options.json
              ? `${JSON.stringify(line)}\n`
              : `${harmless(accessText(line, style.dim), context.stdout)}\n`,
          )
        return followAccess(client, params.app, options, tell, run)
      }
      const print = (line: LogLine) => {
        if (options.json) return context.stdout.write(`${JSON.stringify(line)}\n`)
        // To the millisecond: the rest only keeps them apart.
        const at = line.timestamp.replace(/(\.\d{3})\d+Z$/, '$1Z')
        const who =
          line.container === undefined ? line.machine : `${line.machine} ${line.container}`
        const from = `${at} ${line.region} [${who}]`
        return context.stdout.write(
          `${style.dim(from)} ${harmless(line.message, context.stdout)}\n`,
        )
      }
      const { tail, lines, follow } = options
      if (follow && tail === false) throw usage('--follow and --no-tail are opposites')
      // By a time, all of them are wanted, unless it is said how many.
      const all = options.since !== undefined && lines === LINES
      const wanted = { ...options, lines: all ? LINES_MAX : lines === true ? LINES : lines }
      await readLogs(client, params.app, wanted, print, run)
    }),
  )
}

/** None are kept, so that nothing of these makes sense. */
function refuseWithAccess({ tail, lines, since, container }: Options): void {
  const other = [
    ...(tail === false ? ['--no-tail'] : []),
    ...(lines === LINES ? [] : ['--lines']),
    ...(since === undefined ? [] : ['--since']),
    ...(container === undefined ? [] : ['--container']),
  ][0]
  if (other !== undefined)
    throw usage(`--access tells of requests from now on, of all containers: leave out ${other}`)
}

function accessText(line: AccessLine, dim: (text: string) => string): string {
  const { timestamp, region, client, method, path, status, bytes_out, duration_ms } = line
  return [
    dim(`${timestamp} ${region}`),
    `${client} ${method} ${path} ${status === 0 ? '-' : status} ${bytes_out}B ${duration_ms}ms`,
    dim(`[${line.machine ?? '-'}] ${line.request_id}`),
  ].join(' ')
}

/** How long a follower waits for a server that went away: it is started again within seconds, or somebody has to look. */
const AWAY_MS_MAX = 5 * 60_000
const RETRY_MS = 1000
/** A call that took longer had reached the server, which was there until it broke. */
const CONNECT_MS_MAX = 15_000
const REPEATED_MAX = 10_000
const LINES = 100
const LINES_MAX = 10_000

/** Lines as they come. When the connection of a follower breaks it goes on after the last line that was printed. */
export async function readLogs(
  client: ApiClient,
  app: string,
  options: Pick<Options, 'follow' | 'machine' | 'container' | 'region' | 'since'> & {
    readonly lines: number
  },
  print: (line: LogLine) => unknown,
  run: {
    readonly signal: AbortSignal
    readonly warn: (text: string) => unknown
    readonly clock?: Clock
  },
): Promise<void> {
  const clock = run.clock ?? systemClock
  /** The last lines that were printed, so that those told again after a break are known. */
  const printed = new Set<string>()
  /** When the server was last known to be there. */
  let thereAt = clock.now()
  let broken = false
  for (;;) {
    const lines = broken ? Math.max(options.lines, 1000) : options.lines
    const query = {
      lines,
      ...(options.follow ? { follow: 'true' as const } : {}),
      ...(options.machine === undefined ? {} : { machine: checkedMachineId(options.machine) }),
      ...(options.container === undefined ? {} : { container: options.container }),
      ...(options.region === undefined ? {} : { region: options.region }),
      ...(options.since === undefined ? {} : { since: options.since }),
    }
    const beganAt = clock.now()
    try {
      for await (const line of client.appLogs({ params: { app }, query }, { signal: run.signal })) {
        thereAt = clock.now()
        const id = `${line.timestamp} ${line.machine} ${line.message}`
        if (broken && printed.has(id)) continue
        if (options.follow) {
          printed.add(id)
          if (printed.size > REPEATED_MAX) printed.delete(printed.values().next().value ?? '')
        }
        print(line)
      }
      if (!options.follow) return
      thereAt = clock.now()
    } catch (error) {
      if (run.signal.aborted) return
      const now = clock.now()
      if (now - beganAt > CONNECT_MS_MAX) thereAt = now
      const away =
        error instanceof ApiError ? error.status >= 500 : nameOf(error) === 'ServerUnreached'
      if (!options.follow || !away || now - thereAt > AWAY_MS_MAX) throw error
      // A first connection that fails is no break.
      if (!broken && printed.size === 0 && now - beganAt < RETRY_MS) throw error
    }
    if (run.signal.aborted) return
    if (!broken) run.warn('the connection broke; going on as soon as the server answers')
    broken = true
    await clock.sleep(RETRY_MS, run.signal)
    if (run.signal.aborted) return
  }
}

function lineCount(text: string): number {
  const count = Number(text)
  if (/^\d+$/.test(text) && count <= LINES_MAX) return count
  throw new InvalidArgumentError('It is a number from 0 to 10000.')
}

const UNITS_MS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** `10m` ago, or a time. */
export function timeOf(text: string, _before?: unknown, now = Date.now()): string {
  const [, count, unit] = /^(\d+)([smhd])$/.exec(text) ?? []
  const ms =
    count === undefined ? Date.parse(text) : now - Number(count) * (UNITS_MS[unit ?? ''] ?? 0)
  const looksLikeTime = count !== undefined || /^\d{4}-\d\d-\d\d/.test(text)
  if (looksLikeTime && Number.isFinite(ms) && ms >= 0) return new Date(ms).toISOString()
  throw new InvalidArgumentError(
    'It is 30s, 10m, 2h or 3d, or a time such as 2026-01-31T12:00:00Z.',
  )
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : ''
}
