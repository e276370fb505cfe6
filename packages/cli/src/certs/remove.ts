import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { confirmByName } from '../terminal/ask.ts'
import { typedHostname } from './hostname.ts'

interface Options extends AppOptions {
  readonly acme?: boolean
  readonly custom?: boolean
  readonly yes?: boolean
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('remove')
      .description('Take a name and its certificates away from an app; asks for the name first')
      .argument('<hostname>', 'as roost certs list shows it'),
  )
    .option('--acme', 'only order no more; without an imported certificate, the whole name goes')
    .option(
      '--custom',
      'only take away the imported certificate; when none is ordered, the whole name goes',
    )
    .option('-y, --yes', 'do not ask')
  explained(command, {
    examples: [
      'roost certs remove www.example.com -a shop',
      'roost certs remove www.example.com --custom --yes',
    ],
    json: '{hostname, removed: all|acme|custom}',
  })
  command.action(async (typed: string, options: Options) => {
    if (options.acme && options.custom)
      throw usage('--acme and --custom together are the whole name: leave both out')
    await withApp(context, options, async ({ client, app }) => {
      const hostname = typedHostname(typed)
      const params = { app, hostname }
      const { certificates, acme_requested: ordered } = await client.getCertificate({ params })
      const imported = certificates.some(({ source }) => source === 'custom')
      // A name of which nothing else would be left goes with it.
      const removed =
        options.acme && imported
          ? 'acme'
          : options.custom && (ordered || !imported)
            ? 'custom'
            : 'all'
      const what = {
        all: `Take ${hostname} away from ${app}: nobody is answered under it any more`,
        acme: `Order no certificates for ${hostname} any more`,
        custom: `Take the imported certificate of ${hostname} away`,
      }[removed]
      await confirmByName(context, hostname, what, options.yes ?? false)
      if (removed === 'acme') await client.deleteAcmeCertificate({ params })
      else if (removed === 'custom') await client.deleteCustomCertificate({ params })
      else await client.deleteCertificate({ params })
      if (options.json) return printJson(context, { hostname, removed })
      context.stdout.write(
        removed === 'all'
          ? `${hostname} does not lead to ${app} any more.\n`
          : `Done: ${what.charAt(0).toLowerCase()}${what.slice(1)}.\n`,
      )
    })
  })
}
