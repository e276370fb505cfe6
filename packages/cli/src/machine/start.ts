import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import type { AppOptions } from '../session/app-session.ts'
import { changeMachines } from './change-machines.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('start')
      .description('Start machines and wait until they are started')
      .argument('<id...>', 'machines'),
  ).option('--no-wait', 'do not wait until they are started')
  explained(command, {
    examples: ['roost machine start 3d8d9014b51089 -a shop'],
    json: '[{id, state: "started"}] (null with --no-wait)',
  })
  command.action((ids: string[], options: AppOptions & { json?: boolean; wait?: boolean }) =>
    changeMachines(context, ids, options, {
      state: 'started',
      doing: 'starting',
      ask: (client, params) => client.startMachine({ params }),
    }),
  )
}
