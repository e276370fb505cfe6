import { isUtf8 } from 'node:buffer'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import { followOptions } from '../deploy/flags.ts'
import { type Failure, usage } from '../failure/failure.ts'
import { changeSecrets, type SecretOptions } from './change-secrets.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('set')
      .description('Set secrets; they reach programs as environment, through a new release')
      .argument('<name=value...>', 'NAME=- takes the value from standard input'),
  ).option('--stage', 'only store them; the next release brings them to the machines')
  followOptions(command)
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
    if (at < 0)
      throw usage('a secret looks like NAME=VALUE', [
        'roost secrets set NAME=VALUE',
        'roost secrets set NAME=- < FILE   # from standard input',
      ])
    const name = checkedSecretName(pair.slice(0, at))
    if (Object.hasOwn(values, name)) throw usage(`${name} is there twice`)
    values[name] = pair.slice(at + 1)
  }
  const fromInput = Object.entries(values).filter(([, value]) => value === '-')
  if (fromInput.length > 1) throw usage('only one value can come from standard input')
  const [name] = fromInput[0] ?? []
  if (name !== undefined) {
    const chunks: Buffer[] = []
    let length = 0
    for await (const chunk of context.stdin) {
      chunks.push(Buffer.from(chunk))
      length += chunk.length
      if (length > VALUE_BYTES_MAX + 2) throw tooLarge(name)
    }
    if (!isUtf8(Buffer.concat(chunks)))
      throw usage(
        `the value of ${name} is not text in UTF-8: the environment of a program holds only text`,
        `base64 -w0 FILE | roost secrets set ${name}=-`,
      )
    // The last newline belongs to the shell, as in $(…).
    values[name] = Buffer.concat(chunks)
      .toString('utf8')
      .replace(/\r?\n$/, '')
  }
  for (const [key, value] of Object.entries(values)) checkValue(key, value)
  const total = Object.entries(values).reduce((sum, [, value]) => sum + Buffer.byteLength(value), 0)
  if (total > ALL_BYTES_MAX)
    throw usage(`these secrets are ${total} bytes together: at most ${ALL_BYTES_MAX} at a time`)
  return values
}

/** The kernel takes no longer string as environment (MAX_ARG_STRLEN is 128 KB, name and all). */
const VALUE_BYTES_MAX = 100_000
/** What the server reads as one request. */
const ALL_BYTES_MAX = 2_000_000

function checkValue(name: string, value: string): void {
  if (value === '')
    throw usage(`the value of ${name} is empty`, [`roost secrets unset ${name}   # if it is to go`])
  if (value.includes('\0'))
    throw usage(
      `the value of ${name} has a NUL byte, which no environment can hold`,
      `base64 -w0 FILE | roost secrets set ${name}=-`,
    )
  if (Buffer.byteLength(value) > VALUE_BYTES_MAX) throw tooLarge(name)
}

function tooLarge(name: string): Failure {
  return usage(
    `the value of ${name} is longer than ${VALUE_BYTES_MAX} bytes, which is more than the environment of a program can hold`,
    'bring large files in with the image, or let the program fetch them',
  )
}

export function checkedSecretName(name: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return name
  throw usage(`"${name}" can't be the name of a secret: letters, digits and _, no digit first`)
}
