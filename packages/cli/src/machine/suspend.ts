import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import type { AppOptions } from '../session/app-session.ts'
import { changeMachines } from './change-machines.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('suspend')
      .description(
        'Suspend machines: they leave rotation, drain and are frozen with all that they have in memory',
      )
      .argument('<id...>', 'machines'),
  ).option('--no-wait', 'do not wait until they are suspended')
  explained(command, {
    examples: [
      'roost machine suspend 3d8d9014b51089 -a shop',
      'roost machine resume 3d8d9014b51089 -a shop',
    ],
    json: '[{id, state: "suspended"}] (null with --no-wait)',
  })
  command.action((ids: string[], options: AppOptions & { json?: boolean; wait?: boolean }) =>
    changeMachines(context, ids, options, {
      state: 'suspended',
      doing: 'suspending',
      ask: (client, params) => client.suspendMachine({ params }),
    }),
  )
}
