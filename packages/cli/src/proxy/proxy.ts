import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { chooseMachine, type MachineChoice } from '../ssh/choose-machine.ts'
import { listenFor } from './listen.ts'
import { createTunnel } from './tunnel.ts'

interface Options extends AppOptions, MachineChoice {
  readonly bindAddr: string
  readonly quiet?: boolean
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('proxy')
      .description('Make a port of a machine a port here, until Ctrl-C')
      .argument('<ports>', 'the port there, or LOCAL:REMOTE; 0 takes a free one')
      .argument('[host]', 'a machine, its private address, or a name such as db.internal'),
  )
    .option('--machine <id>', 'of this machine; else of any that runs, chosen for each connection')
    .option('-s, --select', 'pick the machine from a list')
    .option('-r, --region <code>', 'of a machine of this region')
    .option('-b, --bind-addr <address>', 'listen on this address', '127.0.0.1')
    .option('-q, --quiet', 'say nothing of connections that fail')
  explained(command, {
    examples: [
      'roost proxy 5432 -a db',
      'roost proxy 15432:5432 db.internal',
      'roost proxy 8080:80 ams.shop.internal',
      'roost proxy 3000 3d8d9014b51089',
    ],
    json: 'once, when it listens: {address, port, machine, region, host, remote_port}',
  })
  command.action((said: string, host: string | undefined, options: Options) =>
    withApp(context, options, async ({ client, app }) => {
      const { local, remote } = portsOf(said)
      const one = options.machine !== undefined || options.select === true
      if (one && host !== undefined) throw usage('a machine and a host are named: one is enough')
      const named = one ? await chooseMachine(context, client, app, options) : host
      const region = options.region === undefined ? {} : { region: options.region }
      const tunnel = createTunnel(context, app, {
        port: remote,
        ...(named === undefined ? {} : { host: named }),
        ...region,
      })
      // What can't be reached is said before anybody connects.
      const first = await tunnel.ready()
      const warn = (text: string) => {
        if (!options.quiet) context.stderr.write(`${text}\n`)
      }
      const listening = await listenFor({ address: options.bindAddr, port: local }, tunnel, warn)
      const there = `${named ?? `${app}.internal`}:${remote}`
      if (options.json)
        context.stdout.write(
          `${JSON.stringify({ address: listening.address, port: listening.port, ...first, host: named ?? null, remote_port: remote })}\n`,
        )
      else
        context.stdout.write(
          `${listening.address}:${listening.port} is ${there} now (${first.region ?? '-'}, machine ${first.machine}). Ctrl-C ends it.\n`,
        )
      await untilAborted(context.interrupted())
      await listening.close()
      tunnel.close()
    }),
  )
}

function portsOf(text: string): { readonly local: number; readonly remote: number } {
  const [, first = '', second] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text) ?? []
  const [local, remote] = [Number(first), Number(second ?? first)]
  if (first !== '' && local <= 65_535 && remote >= 1 && remote <= 65_535) return { local, remote }
  throw usage(`"${text}" names no ports: it is REMOTE or LOCAL:REMOTE, from 1 to 65535`)
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
