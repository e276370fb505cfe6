import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import { nearest } from '../config/reader.ts'
import { followOptions } from '../deploy/flags.ts'
import { usage } from '../failure/failure.ts'
import { withApp } from '../session/app-session.ts'
import { changeSecrets, type SecretOptions } from './change-secrets.ts'
import { checkedSecretName } from './set.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('unset')
      .description('Remove secrets, through a new release')
      .argument('<name...>', 'secrets'),
  ).option('--stage', 'only forget them; the next release takes them from the machines')
  followOptions(command)
  explained(command, {
    examples: ['roost secrets unset OLD_KEY -a shop'],
    json: '{names, release: as roost releases --json | null}',
  })
  command.action(async (names: string[], options: SecretOptions) => {
    await withApp(context, options, async ({ client, params, app }) => {
      const known = (await client.listSecrets({ params })).map(({ name }) => name)
      for (const name of names.map(checkedSecretName)) {
        if (known.includes(name)) continue
        const near = nearest(name, known, (one) => one)
        throw usage(
          `${app} has no secret ${name}`,
          near === null ? 'roost secrets list' : `roost secrets unset ${near}`,
        )
      }
    })
    await changeSecrets(context, options, Object.fromEntries(names.map((name) => [name, null])))
  })
}
