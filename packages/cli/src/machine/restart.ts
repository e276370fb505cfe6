import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import type { AppOptions } from '../session/app-session.ts'
import { changeMachines } from './change-machines.ts'

interface RestartOptions extends AppOptions {
  readonly json?: boolean
  readonly wait?: boolean
  readonly forceStop?: boolean
  readonly signal?: string
  readonly time?: string
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('restart')
      .description('Stop machines and start them again: they leave rotation and drain first')
      .argument('<id...>', 'machines'),
  )
    .option('-s, --signal <signal>', 'the signal to stop with; else the one in fly.toml')
    .option('--time <seconds>', 'how long to wait before it is killed; else kill_timeout')
    .option('--force-stop', 'kill at once')
    .option('--no-wait', 'do not wait until they are started')
  explained(command, {
    examples: [
      'roost machine restart 3d8d9014b51089 -a shop',
      'roost machine restart 3d8d9014b51089 --signal SIGTERM --time 30',
    ],
    json: '[{id, state: "started"}] (null with --no-wait)',
  })
  command.action((ids: string[], options: RestartOptions) => {
    const { signal, time } = options
    return changeMachines(context, ids, options, {
      state: 'started',
      doing: 'restarting',
      ask: (client, params) =>
        client.restartMachine({
          params,
          query: {
            ...(options.forceStop ? { force_stop: 'true' as const } : {}),
            ...(signal === undefined ? {} : { signal }),
            ...(time === undefined ? {} : { timeout: /^\d+$/.test(time) ? `${time}s` : time }),
          },
        }),
    })
  })
}
