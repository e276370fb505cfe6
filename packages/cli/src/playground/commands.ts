import { type Command, InvalidArgumentError } from 'commander'
import type { CliContext } from '../cli-context.ts'
import type { CommandModule } from '../command-table.ts'
import { usage } from '../failure/failure.ts'
import { progressOn } from '../terminal/progress.ts'
import { tableText } from '../terminal/table.ts'
import { ago, span } from '../terminal/time.ts'
import { playgroundDown } from './down.ts'
import {
  faultCut,
  faultDelay,
  faultHeal,
  faultKillProgram,
  faultKillRegion,
  faultList,
  faultLoss,
  faultRestoreRegion,
  killableNames,
} from './fault.ts'
import { DEFAULT_DOMAIN, DEFAULT_NAME, DEFAULT_NETWORK } from './plan.ts'
import { planOf } from './state.ts'
import { type PlaygroundStatus, playgroundStatus } from './status.ts'
import { playgroundUp } from './up.ts'
import type { Faults } from './wan/links.ts'

interface Common {
  readonly name: string
  readonly json?: boolean
}

/** `roost playground up | status | down | fault …`: each is added to the command of the noun. */
export const upCommand: CommandModule = {
  register(playground, context) {
    common(
      playground,
      'up',
      'raise a host in each region, a client near each, and a network with real distances',
    )
      .requiredOption('--regions <codes>', 'region codes, the first also runs the server', listOf)
      .option('--domain <domain>', 'apps answer under <app>.<domain>', DEFAULT_DOMAIN)
      .option('--network <start>', 'first half of its addresses', DEFAULT_NETWORK)
      .option('--no-seed', 'leave the registry without base images')
      .addHelpText('after', '\nExample:\n  roost playground up --regions ams,iad,syd')
      .action((options: UpOptions) => up(context, options))
  },
}

export const statusCommand: CommandModule = {
  register(playground, context) {
    common(playground, 'status', 'what runs where, how it is reached, what is broken on purpose')
      .addHelpText('after', '\nExample:\n  roost playground status --json | jq -r .dns')
      .action(async (options: Common) => {
        const status = await playgroundStatus(options.name)
        context.stdout.write(options.json ? json(status) : `${statusText(context, status)}\n`)
      })
  },
}

export const downCommand: CommandModule = {
  register(playground, context) {
    common(playground, 'down', 'remove everything of it from this machine')
      .addHelpText('after', '\nWorks after any crash, and again when nothing is left.')
      .action((options: Common) => down(context, options))
  },
}

function common(parent: Command, usageText: string, description: string): Command {
  return parent
    .command(usageText)
    .description(description)
    .option('--name <name>', 'which playground', DEFAULT_NAME)
    .option('--json', 'answer in JSON')
}

interface UpOptions extends Common {
  readonly regions: string[]
  readonly domain: string
  readonly network: string
  readonly seed: boolean
}

async function up(context: CliContext, options: UpOptions): Promise<void> {
  const begin = performance.now()
  const progress = progressOn(context, context.stderr)
  try {
    const status = await playgroundUp({
      ...options,
      onProgress: (who, what) => {
        const text = `${who}: ${what}`
        if (what === 'ok') progress.finish(who, 'done', text)
        else progress.update(who, text)
      },
    })
    progress.stop()
    if (options.json) {
      context.stdout.write(json(status))
      return
    }
    const flag = options.name === DEFAULT_NAME ? '' : ` --name ${options.name}`
    context.stdout.write(`${statusText(context, status)}

Up after ${span(performance.now() - begin)}. Next, in a folder with a Dockerfile:
  roost launch --regions ${options.regions.join(',')}
See it from a client near ${options.regions[0]}:
  ip netns exec ${status.regions[0]?.client_ns} curl http://<app>.${status.domain}
Break it:
  roost playground fault kill ${options.regions.at(-1)}${flag}
`)
  } finally {
    progress.stop()
  }
}

async function down(context: CliContext, options: Common): Promise<void> {
  const begin = performance.now()
  const progress = progressOn(context, context.stderr)
  try {
    const removed = await playgroundDown(options.name, (what) =>
      progress.update('down', `removing ${what}`),
    )
    const text = removed
      ? `the playground ${options.name} is gone (${span(performance.now() - begin)})`
      : `there is no playground ${options.name}`
    if (options.json) context.stdout.write(json({ name: options.name, removed }))
    else progress.finish('down', 'done', text)
  } finally {
    progress.stop()
  }
}

export const faultCommand: CommandModule = {
  register(playground, context) {
    const fault = playground
      .command('fault')
      .description('break something on purpose, and mend it again')
      .addHelpText('after', FAULT_HELP)
    registerFaults(fault, context)
  },
}

const FAULT_HELP = `
REGION is a region of the playground; A and B are regions (their hosts) or client-REGION.

Examples:
  roost playground fault kill ams                    # its host loses power
  roost playground fault restore ams
  roost playground fault kill haproxy --region iad   # one program, kill -9; it is started again
  roost playground fault cut ams iad                 # a partition between two hosts
  roost playground fault delay ams syd 400           # a round trip of 400 ms
  roost playground fault loss client-ams ams 5       # percent of the packets, each way
  roost playground fault heal ams iad                # ends cut, delay and loss between two`

function registerFaults(fault: Command, context: CliContext): void {
  const tell = (options: Common, text: string, rest: object) => {
    context.stdout.write(options.json ? json(rest) : `${text}\n`)
  }

  common(fault, 'kill <region-or-program>', `a whole region, or one of ${killableNames.join(', ')}`)
    .option('--region <code>', 'where the program runs')
    .action(async (what: string, options: Common & { region?: string }) => {
      const isRegion = planOf(options.name).regions.some(({ code }) => code === what)
      if (isRegion) {
        if (options.region !== undefined)
          throw usage(`${what} is a region itself: leave --region out`)
        const faults = await faultKillRegion(what, options.name)
        tell(options, `${what} is dead`, { killed: what, faults })
        return
      }
      if (!killableNames.some((one) => one === what))
        throw usage(
          `${what} is neither a region (${planOf(options.name)
            .regions.map(({ code }) => code)
            .join(', ')}) nor a program (${killableNames.join(', ')})`,
        )
      const pids = await faultKillProgram(what, options.region, options.name)
      tell(options, `killed ${what} (${pids.join(', ')})`, { killed: what, pids })
    })
  common(fault, 'restore <region>', 'power for a region that was killed').action(
    async (region: string, options: Common) => {
      const faults = await faultRestoreRegion(region, options.name)
      tell(options, `${region} has power again; its programs are starting`, {
        restored: region,
        faults,
      })
    },
  )
  common(fault, 'cut <a> <b>', 'nothing passes between two ends').action(
    async (a: string, b: string, options: Common) => {
      const faults = await faultCut(a, b, options.name)
      tell(options, `nothing passes between ${a} and ${b}`, { faults })
    },
  )
  common(fault, 'heal <a> <b>', 'ends cut, delay and loss between two ends').action(
    async (a: string, b: string, options: Common) => {
      const faults = await faultHeal(a, b, options.name)
      tell(options, `all is well between ${a} and ${b}`, { faults })
    },
  )
  common(fault, 'delay <a> <b> <ms>', 'another round trip between two ends').action(
    async (a: string, b: string, ms: string, options: Common) => {
      const faults = await faultDelay(a, b, numberOf(ms, 'milliseconds'), options.name)
      tell(options, `the round trip between ${a} and ${b} is ${Number(ms)} ms`, { faults })
    },
  )
  common(
    fault,
    'loss <a> <b> <percent>',
    'some packets between two ends are lost, each way',
  ).action(async (a: string, b: string, percent: string, options: Common) => {
    const faults = await faultLoss(a, b, numberOf(percent, 'percent'), options.name)
    tell(options, `${Number(percent)} % of the packets between ${a} and ${b} are lost`, {
      faults,
    })
  })
  common(fault, 'list', 'what is broken on purpose').action(async (options: Common) => {
    const faults = await faultList(options.name)
    tell(options, faultLines(faults).join('\n') || 'nothing is broken on purpose', { faults })
  })
}

function faultLines(faults: Faults): string[] {
  return [
    ...faults.down.map((endpoint) => `${endpoint} is dead`),
    ...faults.pairs.map(({ a, b, cut, delayMs, lossPercent }) => {
      const parts = [
        cut ? 'cut' : [],
        delayMs === null ? [] : `round trip ${delayMs} ms`,
        lossPercent === 0 ? [] : `${lossPercent} % lost`,
      ].flat()
      return `${a} and ${b}: ${parts.join(', ')}`
    }),
  ]
}

function statusText(context: CliContext, status: PlaygroundStatus): string {
  const rows = status.regions.map((region) => [
    region.code,
    region.power === 'on' ? region.edge.http : 'dead',
    region.client_ns,
    region.programs
      .map(({ name, pid, ended }) => {
        const loops = ended !== null && ended.soon >= 3
        const why = loops ? `, ended ${ended.soon} times in a row with ${ended.code}` : ''
        return pid === null ? `${name} (starting${why})` : `${name} ${pid}`
      })
      .join(', ') || '-',
  ])
  const oldest = status.wan.since === null ? '' : `, up since ${ago(status.wan.since)}`
  return [
    `playground ${status.name}${oldest}`,
    `server   ${status.server}`,
    `domain   *.${status.domain}, DNS for clients ${status.dns}`,
    `token    ${status.token_file}`,
    '',
    tableText(['REGION', 'EDGE', 'CLIENT NAMESPACE', 'PROGRAMS'], rows, context.stdout),
    ...faultLines(status.faults).map((line, n) => (n === 0 ? `\nFAULTS\n${line}` : line)),
  ].join('\n')
}

function listOf(text: string): string[] {
  const codes = text
    .split(',')
    .map((code) => code.trim())
    .filter((code) => code !== '')
  if (codes.length === 0) throw new InvalidArgumentError('region codes, such as ams,iad,syd')
  return codes
}

function numberOf(text: string, unit: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value) || value < 0)
    throw usage(`"${text}" is no number of ${unit}`)
  return value
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}
