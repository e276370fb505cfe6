import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { tableText } from '../terminal/table.ts'
import { checkedMachineId } from './machine-id.ts'
import { pairs } from './machine-options.ts'

interface Options extends AppOptions {
  readonly set?: readonly string[]
  readonly unset?: readonly string[]
  readonly json?: boolean
}

const more = (value: string, before: readonly string[] = []) => [...before, value]

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('metadata')
      .description('Metadata of a machine: set and removed while it runs, without a new version')
      .argument('<id>', 'machine'),
  )
    .option('--set <NAME=VALUE>', 'may be repeated', more)
    .option('--unset <name>', 'may be repeated', more)
  explained(command, {
    examples: [
      'roost machine metadata 3d8d9014b51089 -a shop',
      'roost machine metadata 3d8d9014b51089 --set role=leader --unset old',
    ],
    json: '{name: value}, as it is afterwards',
  })
  command.action((said: string, options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      const at = { ...params, id: checkedMachineId(said) }
      for (const [key, value] of Object.entries(pairs(options.set ?? [], '--set')))
        await client.setMetadata({ params: { ...at, key }, body: { value } })
      for (const key of options.unset ?? []) await client.deleteMetadata({ params: { ...at, key } })
      const metadata = await client.getMetadata({ params: at })
      if (options.json) return printJson(context, metadata)
      const rows = Object.entries(metadata).map(([name, value]) => [name, String(value)])
      context.stdout.write(`${tableText(['NAME', 'VALUE'], rows, context.stdout)}\n`)
    }),
  )
}
