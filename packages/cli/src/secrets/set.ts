import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { changeSecrets, type SecretOptions } from './change-secrets.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('set')
      .description('Set secrets; they reach programs as environment, through a new release')
      .argument('<name=value...>', 'NAME=- takes the value from standard input'),
  ).option('--stage', 'only store them; the next release brings them to the machines')
  explained(command, {
    examples: [
      'roost secrets set DATABASE_URL=postgres://… KEY=abc',
      'roost secrets set TLS_KEY=- < key.pem',
      'roost secrets set KEY=abc --stage',
    ],
    json: '{names, release: as roost releases --json | null}',
  })
  command.action(async (pairs: string[], options: SecretOptions) => {
    await changeSecrets(context, options, await secretsFrom(pairs, context))
  })
}

/** Said without the values: they are not for screens, logs and histories. */
export async function secretsFrom(
  pairs: readonly string[],
  context: Pick<CliContext, 'stdin'>,
): Promise<Record<string, string>> {
  const values: Record<string, string> = {}
  for (const pair of pairs) {
    const at = pair.indexOf('=')
    if (at < 0) throw usage('a secret looks like NAME=VALUE', 'roost secrets set NAME=VALUE')
    const name = checkedSecretName(pair.slice(0, at))
    if (Object.hasOwn(values, name)) throw usage(`${name} is there twice`)
    values[name] = pair.slice(at + 1)
  }
  const fromInput = Object.entries(values).filter(([, value]) => value === '-')
  if (fromInput.length > 1) throw usage('only one value can come from standard input')
  const [name] = fromInput[0] ?? []
  if (name !== undefined) {
    const chunks: Buffer[] = []
    for await (const chunk of context.stdin) chunks.push(Buffer.from(chunk))
    // The last newline belongs to the shell, as in $(…).
    values[name] = Buffer.concat(chunks)
      .toString('utf8')
      .replace(/\r?\n$/, '')
  }
  return values
}

export function checkedSecretName(name: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return name
  throw usage(`"${name}" can't be the name of a secret: letters, digits and _, no digit first`)
}
