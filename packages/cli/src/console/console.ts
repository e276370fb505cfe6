import { ApiError } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import { consoleCommandIn, findConfig } from '../config/config-file.ts'
import { GUEST_SIZES, type Guest, guestPreset } from '../config/guest.ts'
import { Ended, Failure, usage } from '../failure/failure.ts'
import { type AppOptions, type AppSession, withApp } from '../session/app-session.ts'
import { runProgram } from '../ssh/run-program.ts'
import { BUSYBOX, SHELL, wordsOf } from '../ssh/shell.ts'
import { progressOn } from '../terminal/progress.ts'

interface Options extends AppOptions {
  readonly command?: string
  readonly region?: string
  readonly image?: string
  readonly user: string
  readonly vmSize?: string
  readonly pty?: boolean
}

const WAIT_SECONDS = 60

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('console')
      .description(
        'A shell in a new machine of the app’s image, environment and secrets, destroyed when you leave',
      ),
  )
    .option('-C, --command <command>', 'run this; else console_command of fly.toml, else a shell')
    .option('-r, --region <code>', 'in this region')
    .option('-i, --image <reference>', 'of this image')
    .option('-u, --user <name>', 'as this user of the image', 'root')
    .option('--vm-size <name>', 'of this size, such as shared-cpu-2x')
    .option('--no-pty', 'without a terminal')
  explained(command, {
    examples: [
      'roost console',
      'roost console -C "bin/rails console"',
      'roost console -C "node migrate.js" --no-pty < input.json',
    ],
  })
  command.action((options: Options) =>
    withApp(context, options, async (session) => {
      const wanted = options.command ?? consoleCommandOf(context, options)
      const start = {
        command: wanted === null ? [...SHELL] : wordsOf([wanted]),
        user: options.user,
      }
      const isTerminal = context.stdin.isTTY === true && context.stdout.isTTY === true
      const progress = progressOn(context, context.stderr)
      progress.update('machine', 'making a machine for you')
      const { client, app, params } = session
      const machine = await makeMachine(session, options)
      const destroy = () =>
        client
          .deleteMachine({ params: { ...params, id: machine }, query: { force: 'true' } })
          .catch((error: unknown) => {
            // It has ended by itself.
            if (!(error instanceof ApiError)) throw error
          })
      try {
        await untilStarted(session, machine)
        progress.finish('machine', 'done', `machine ${machine} is yours, until you leave`)
        progress.stop()
        const terminal = isTerminal && options.pty !== false
        const code = await runProgram(context, { app, machine, start, terminal })
        if (code !== 0) throw new Ended(code)
      } finally {
        progress.stop()
        await destroy()
      }
    }),
  )
}

/** It ends by itself when nobody is in it, so it is destroyed also where we can't: killed, or without a server. */
async function makeMachine({ client, params, app }: AppSession, options: Options): Promise<string> {
  const machines = await client.listMachines({ params })
  const like =
    machines.find(({ config }) => metadataOf(config)['fly_process_group'] === 'app') ?? machines[0]
  const image = options.image ?? like?.config['image']
  if (typeof image !== 'string')
    throw new Failure(`${app} has no machine whose image could be taken`, {
      fix: [`roost deploy -a ${app}`, `roost console -a ${app} --image IMAGE`],
    })
  const preset = options.vmSize === undefined ? null : guestPreset(options.vmSize)
  if (options.vmSize !== undefined && preset === null)
    throw usage(`there is no size "${options.vmSize}": there are ${GUEST_SIZES.join(', ')}`)
  const machine = await client.createMachine({
    params,
    body: {
      ...(options.region === undefined ? {} : { region: options.region }),
      config: {
        image,
        env: (like?.config['env'] ?? {}) as Record<string, string>,
        guest: { ...(preset ?? (like?.config['guest'] as Guest | undefined)) },
        init: { exec: [BUSYBOX, 'sh', '-c', UNTIL_ALONE] },
        restart: { policy: 'no' },
        auto_destroy: true,
        metadata: { fly_process_group: 'fly_app_console' },
      },
    },
  })
  return machine.id
}

/** A minute for the first to come, then until nobody is there any more. PID 1 is tini, and this shell its child. */
const UNTIL_ALONE = `
others() { for p in /proc/[0-9]*; do case "\${p#/proc/}" in 1|$$) ;; *) return 0 ;; esac; done; return 1; }
trap 'exit 0' TERM INT
n=0
until others; do n=$((n+1)); [ $n -gt 60 ] && exit 0; sleep 1; done
alone=0
while [ $alone -lt 3 ]; do if others; then alone=0; else alone=$((alone+1)); fi; sleep 1; done
`

async function untilStarted({ client, params }: AppSession, id: string): Promise<void> {
  await client.waitMachine({
    params: { ...params, id },
    query: { state: 'started', timeout: WAIT_SECONDS },
  })
}

function consoleCommandOf(context: CliContext, options: AppOptions): string | null {
  const file = findConfig(context.cwd, options.config)
  return file === null ? null : consoleCommandIn(file.content)
}

function metadataOf(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { metadata } = config
  return typeof metadata === 'object' && metadata !== null
    ? (metadata as Record<string, unknown>)
    : {}
}
