import { type ApiClient, ApiError, type LogLine } from '@roost/api'
import { type Clock, systemClock } from '@roost/base'
import { type Command, InvalidArgumentError } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import { checkedMachineId } from '../machine/machine-id.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { harmless, styleOf } from '../terminal/style.ts'

interface Options extends AppOptions {
  readonly follow?: boolean
  readonly lines: number
  readonly machine?: string
  readonly region?: string
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent.command('logs').description('What the machines of an app print, the oldest line first'),
  )
    .option('-f, --follow', 'go on with new lines until Ctrl-C')
    .option('-n, --lines <number>', 'how many of the last lines to begin with', lineCount, 100)
    .option('--machine <id>', 'only of one machine')
    .option('--region <code>', 'only of one region')
  explained(command, {
    examples: [
      'roost logs -f',
      'roost logs -a shop -n 500 --region ams',
      'roost logs --json | jq -r .message',
    ],
    json: 'one object a line: {timestamp, machine, region, host, message}',
  })
  command.action((options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      const style = styleOf(context, context.stdout)
      const print = (line: LogLine) => {
        if (options.json) return context.stdout.write(`${JSON.stringify(line)}\n`)
        const from = `${line.timestamp} ${line.region} [${line.machine}]`
        return context.stdout.write(
          `${style.dim(from)} ${harmless(line.message, context.stdout)}\n`,
        )
      }
      await readLogs(client, params.app, options, print, {
        signal: context.interrupted(),
        warn: (text) => context.stderr.write(`${styleOf(context, context.stderr).yellow(text)}\n`),
      })
    }),
  )
}

/** How long a follower waits for a server that went away: it is started again within seconds, or somebody has to look. */
const AWAY_MS_MAX = 5 * 60_000
const RETRY_MS = 1000
const REPEATED_MAX = 10_000

/** Lines as they come. When the connection of a follower breaks it goes on after the last line that was printed. */
export async function readLogs(
  client: ApiClient,
  app: string,
  options: Pick<Options, 'follow' | 'lines' | 'machine' | 'region'>,
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
  let heardAt = clock.now()
  let broken = false
  for (;;) {
    const lines = broken ? Math.max(options.lines, 1000) : options.lines
    const query = {
      lines,
      ...(options.follow ? { follow: 'true' as const } : {}),
      ...(options.machine === undefined ? {} : { machine: checkedMachineId(options.machine) }),
      ...(options.region === undefined ? {} : { region: options.region }),
    }
    try {
      for await (const line of client.appLogs({ params: { app }, query }, { signal: run.signal })) {
        heardAt = clock.now()
        const id = `${line.timestamp} ${line.machine} ${line.message}`
        if (broken && printed.has(id)) continue
        if (options.follow) {
          printed.add(id)
          if (printed.size > REPEATED_MAX) printed.delete(printed.values().next().value ?? '')
        }
        print(line)
      }
      if (!options.follow) return
    } catch (error) {
      if (run.signal.aborted) return
      const away =
        error instanceof ApiError ? error.status >= 500 : nameOf(error) === 'ServerUnreached'
      if (!options.follow || !away || clock.now() - heardAt > AWAY_MS_MAX) throw error
      // A first connection that fails is no break.
      if (!broken && printed.size === 0 && clock.now() - heardAt < RETRY_MS) throw error
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
  if (/^\d+$/.test(text) && count <= 10_000) return count
  throw new InvalidArgumentError('It is a number from 0 to 10000.')
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : ''
}
