import type { ApiClient } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import type { CommandModule } from '../command-table.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { checkedMachineId } from './machine-id.ts'

export const cordonCommand = commandFor('cordon', {
  about: 'Take machines out of rotation: they run on, and no new request reaches them',
  cordoned: true,
  ask: (client, params) => client.cordonMachine({ params }),
})
export const uncordonCommand = commandFor('uncordon', {
  about: 'Let machines be sent requests again',
  cordoned: false,
  ask: (client, params) => client.uncordonMachine({ params }),
})

function commandFor(
  verb: 'cordon' | 'uncordon',
  how: {
    readonly about: string
    readonly cordoned: boolean
    readonly ask: (client: ApiClient, params: { app: string; id: string }) => Promise<unknown>
  },
): CommandModule {
  return {
    register(parent: Command, context: CliContext) {
      const command = appOption(
        parent.command(verb).description(how.about).argument('<id...>', 'machines'),
      )
      explained(command, {
        examples: [`roost machine ${verb} 3d8d9014b51089 -a shop`],
        json: `[{id, cordoned: ${how.cordoned}}]`,
      })
      command.action((ids: string[], options: AppOptions & { json?: boolean }) => {
        const checked = [...new Set(ids.map(checkedMachineId))]
        return withApp(context, options, async ({ client, params }) => {
          for (const id of checked) {
            await how.ask(client, { ...params, id })
            if (!options.json) context.stdout.write(`${id} is ${verb}ed\n`)
          }
          if (options.json)
            printJson(
              context,
              checked.map((id) => ({ id, cordoned: how.cordoned })),
            )
        })
      })
    },
  }
}
