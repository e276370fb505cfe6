import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import type { AppOptions } from '../session/app-session.ts'
import { changeMachines } from './change-machines.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('stop')
      .description('Stop machines: they leave rotation, drain and get their kill signal')
      .argument('<id...>', 'machines'),
  ).option('--no-wait', 'do not wait until they are stopped')
  explained(command, {
    examples: ['roost machine stop 3d8d9014b51089 -a shop'],
    json: '[{id, state: "stopped"}] (null with --no-wait)',
  })
  command.action((ids: string[], options: AppOptions & { json?: boolean; wait?: boolean }) =>
    changeMachines(context, ids, options, {
      state: 'stopped',
      doing: 'stopping',
      ask: (client, params) => client.stopMachine({ params }),
    }),
  )
}
