import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import type { CommandModule } from '../command-table.ts'
import { usage } from '../failure/failure.ts'
import { canAsk, confirm } from '../terminal/ask.ts'
import { progressOn } from '../terminal/progress.ts'
import { span } from '../terminal/time.ts'
import { hostDown, hostUp, newTicket, runningMachineProcesses } from './real-host.ts'

interface UpOptions {
  readonly region?: string
  readonly name?: string
  readonly publicAddress?: string
  readonly domain?: string
  readonly server?: string
  readonly joinToken?: string
  readonly acmeEmail?: string
  readonly acmeDirectory?: string
  readonly netns?: string
  readonly json?: boolean
}

/** `roost up`: this machine becomes a host. */
export const upCommand: CommandModule = {
  register(program, context) {
    const command = program
      .command('up')
      .description('make this machine a host, and the server too if it is the first')
      .option('--region <code>', 'where it stands, such as ams')
      .option('--name <name>', "what to call it; default: the machine's own name")
      .option('--public-address <ip>', 'where strangers reach it, if that is not its own address')
      .option('--domain <domain>', 'first host: apps answer under <app>.<domain>')
      .option('--server <url>', 'another host: the server that it joins')
      .option('--join-token <token>', 'another host: printed by `roost up` on the first')
      .option(
        '--acme-email <address>',
        "host with the server: order certificates for names of your own, from Let's Encrypt, whose terms you agree to with this; it writes there",
      )
      .option('--acme-directory <url>', 'order them from another authority (RFC 8555)')
      .option('--netns <name>', 'a network namespace instead of the machine itself, to try it out')
    explained(command, {
      examples: [
        'roost up --region ams --domain apps.example.com   # the first host',
        'roost up                                          # again: prints how others join',
        'roost up --acme-email you@example.com             # from now on, certificates are ordered',
        'roost up --region iad --server https://203.0.113.7:4280 --join-token roost_join_…',
      ],
      json: '{name, region, public_address, server, domain, token_file, ca_file, programs: [{name, pid, since, ended: {times, soon, code, at}}]}',
    })
    command.action((options: UpOptions) => up(context, options))
  },
}

export const downCommand: CommandModule = {
  register(program, context) {
    const command = program
      .command('down')
      .description('stop everything of this host; `roost up` starts it again')
      .option('--purge', 'remove images, logs, keys and state too')
      .option('--yes', 'do not ask, even when machines run')
      .option('--netns <name>', 'the namespace that was given to `roost up`')
    explained(command, {
      examples: ['roost down', 'roost down --purge --yes'],
      json: '{removed}',
    })
    command.action((options: { purge?: boolean; yes?: boolean; netns?: string; json?: boolean }) =>
      down(context, options),
    )
  },
}

async function up(context: CliContext, options: UpOptions): Promise<void> {
  const begin = performance.now()
  const progress = progressOn(context, context.stderr)
  try {
    const { status, outcome } = await hostUp({
      ...options,
      onProgress: (who, what) => progress.update(who, `${who}: ${what}`),
    })
    progress.finish(status.name, 'done', `${status.name}: ok`)
    progress.stop()
    if (options.json) return printJson(context, status)
    const ticket = await newTicket(options.netns)
    const lines = [
      outcome === 'running'
        ? `${status.name} in ${status.region} is up`
        : `${status.name} in ${status.region} is up after ${span(performance.now() - begin)}`,
      ...(status.server === null
        ? []
        : [
            `server   ${status.server}`,
            `domain   *.${status.domain}`,
            `token    ${status.token_file}`,
            '',
            'In a folder with a Dockerfile:',
            `  roost launch --regions ${status.region}`,
            'On another machine, within the hour:',
            `  roost up --region REGION --server ${status.server} --join-token ${ticket}`,
          ]),
    ]
    context.stdout.write(`${lines.join('\n')}\n`)
  } finally {
    progress.stop()
  }
}

async function down(
  context: CliContext,
  options: { purge?: boolean; yes?: boolean; netns?: string; json?: boolean },
): Promise<void> {
  const processes = runningMachineProcesses(options.netns)
  if ((processes > 0 || options.purge === true) && options.yes !== true) {
    const what =
      processes > 0
        ? `machines run on this host (${processes} processes)`
        : 'all that this host keeps will be removed'
    if (!canAsk(context)) throw usage(`${what}, and there is no terminal to ask on`, 'add --yes')
    if (!(await confirm(context, `${what}. Go on?`))) return
  }
  const removed = await hostDown({ netns: options.netns, purge: options.purge === true })
  if (options.json) return printJson(context, { removed })
  context.stdout.write(removed ? 'this host is down\n' : 'this machine is no host\n')
}
