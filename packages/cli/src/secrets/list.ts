import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { tableText } from '../terminal/table.ts'
import { ago } from '../terminal/time.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent.command('list').description('Names and digests of secrets; values are never shown'),
  )
  explained(command, {
    examples: ['roost secrets list -a shop'],
    json: '[{name, digest, created_at, updated_at}]',
  })
  command.action((options: AppOptions & { json?: boolean }) =>
    withApp(context, options, async ({ client, params }) => {
      const secrets = await client.listSecrets({ params })
      if (options.json) return printJson(context, secrets)
      if (secrets.length === 0) {
        context.stdout.write('No secrets. Set one: roost secrets set NAME=VALUE\n')
        return
      }
      const rows = secrets.map(({ name, digest, updated_at }) => [name, digest, ago(updated_at)])
      context.stdout.write(`${tableText(['NAME', 'DIGEST', 'SET'], rows, context.stdout)}\n`)
    }),
  )
}
