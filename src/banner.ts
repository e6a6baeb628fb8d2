export interface Addresses {
  readonly psql: string;
  readonly api: string;
  readonly swagger: string;
  readonly gateway: string;
}

/** What a person needs to send the first message. */
export function banner({ psql, api, swagger, gateway }: Addresses): string {
  return `
  Send a message:
    psql "${psql}" \\
      -c "insert into outbox.messages (recipient, content) values ('+905551234567', 'hello')"
  See it:
    psql "${psql}" -c "select * from outbox.sent"
    ${api}/messages/sent
    ${swagger}
  It goes to:
    ${gateway}
`;
}
