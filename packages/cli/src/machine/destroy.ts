import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import type { AppOptions } from '../session/app-session.ts'
import { confirmByName } from '../terminal/ask.ts'
import { changeMachines } from './change-machines.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('destroy')
      .description('Destroy machines; asks first')
      .argument('<id...>', 'machines'),
  )
    .option('-f, --force', 'also machines that run')
    .option('-y, --yes', 'do not ask')
    .option('--no-wait', 'do not wait until they are destroyed')
  explained(command, {
    examples: ['roost machine destroy 3d8d9014b51089 -a shop --force'],
    json: '[{id, state: "destroyed"}] (null with --no-wait)',
  })
  command.action(
    async (
      ids: string[],
      options: AppOptions & { json?: boolean; wait?: boolean; force?: boolean; yes?: boolean },
    ) => {
      const [first = ''] = ids
      const name = ids.length === 1 ? first : String(ids.length)
      const what = ids.length === 1 ? `Destroy machine ${first}` : `Destroy ${ids.length} machines`
      await confirmByName(context, name, what, options.yes ?? options.force ?? false)
      await changeMachines(context, ids, options, {
        state: 'destroyed',
        doing: 'being destroyed',
        ask: (client, params) =>
          client.deleteMachine({ params, query: options.force ? { force: 'true' } : {} }),
      })
    },
  )
}
